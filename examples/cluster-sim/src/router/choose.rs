//! The request path: look up, bring up to date, decide, remember.

use super::*;
use kvsched_scorers::DecideInput;

impl Router {
    /// Decides where job number `number` goes, and remembers that it went there.
    ///
    /// # Errors
    ///
    /// Nobody can be chosen.
    pub fn route(
        &mut self,
        number: u32,
        job: &Job,
        prompt: &[TokenId],
        now: Time,
    ) -> Result<Destination, RouteError> {
        let start = Instant::now();
        self.look_up(job, prompt, now);
        self.bring_up_to_date(now);
        let known = self.matches.longest().checked_sub(1);
        let known = known.and_then(|last| self.blocks.get(last as usize));
        let prefix_demand = known.map_or(0.0, |&prefix| self.demand.observe(prefix, now));
        let prompt_tokens = prompt.len() as u32;
        let request = Request {
            prompt_tokens,
            block_size: self.block_size,
            expected_output_tokens: job.output.tokens,
            lora: job.lora.map(LoraId),
            prefix_demand,
            ..Request::default()
        };
        let destination = self.choose(request, now)?;
        self.enter(number, &destination, prompt_tokens, job.output.tokens, now);
        self.effort.deciding += start.elapsed();
        self.effort.decisions += 1;
        Ok(destination)
    }

    fn choose(&mut self, request: Request<'_>, now: Time) -> Result<Destination, RouteError> {
        let input = DecideInput {
            request,
            loads: &self.loads,
            matches: &self.matches,
            saved_tokens: &self.saved,
            labels: &self.labels,
            rates: &self.rates,
            knowledge: &self.trusted,
            now,
            ..DecideInput::new(&self.candidates)
        };
        let matched = |e: EndpointId| {
            let blocks = self.matches.blocks(e) * self.block_size;
            (blocks + self.saved.get(e.index()).copied().unwrap_or(0)).min(request.prompt_tokens)
        };
        let hand_over = |prefill: EndpointId, decode: EndpointId| {
            let missing = request.prompt_tokens - matched(decode);
            (prefill.0, self.rates[decode.index()].peer.secs(f64::from(missing)))
        };
        if let Some(split) = &self.split {
            let placed = split.place(&input, &mut self.rng, &mut self.scratch)?;
            return Ok(Destination {
                endpoint: placed.decode.0,
                prefill: placed.is_split().then(|| hand_over(placed.prefill, placed.decode)),
                expected_tokens: matched(placed.prefill),
            });
        }
        if self.labels.iter().all(|l| l.get(Label::ROLE) == Some("prefill-decode")) {
            let decision = self.profile.decide(input, &mut self.rng, &mut self.scratch)?;
            let endpoint = decision.endpoint;
            let expected_tokens = matched(endpoint);
            return Ok(Destination { endpoint: endpoint.0, prefill: None, expected_tokens });
        }
        // Everybody else decides twice: among those who prefill, then among those who decode.
        let mut chosen = [EndpointId(0); 2];
        for (stage, chosen) in ["prefill", "decode"].into_iter().zip(&mut chosen) {
            let able = |e: &EndpointId| {
                self.labels[e.index()].get(Label::ROLE).is_some_and(|role| role.contains(stage))
            };
            let rows = self.candidates.iter().zip(&self.loads).filter(|(e, _)| able(e));
            let (some, loads): (Vec<_>, Vec<_>) = rows.map(|(&e, l)| (e, l.clone())).unzip();
            let input = DecideInput { candidates: &some, loads: &loads, ..input };
            *chosen = self.profile.decide(input, &mut self.rng, &mut self.scratch)?.endpoint;
        }
        let [prefill, decode] = chosen;
        Ok(Destination {
            endpoint: decode.0,
            prefill: (prefill != decode).then(|| hand_over(prefill, decode)),
            expected_tokens: matched(prefill),
        })
    }

    fn look_up(&mut self, job: &Job, prompt: &[TokenId], now: Time) {
        self.blocks.clear();
        self.saved.clear();
        self.trusted.clear();
        if !self.profile.needs().matches {
            self.matches.reset(0, 0);
            return;
        }
        prefix_hashes(prompt, self.block_size, job.lora, &mut self.hashes);
        self.blocks.extend(self.hashes.iter().copied().map(BlockHash));
        self.history.expire(now);
        if let Knowledge::History { prompt_blocks, .. } = self.knowledge {
            self.blocks.truncate(prompt_blocks as usize);
            self.history.find_matches(&self.blocks, &mut self.matches);
            return;
        }
        self.index.find_matches(&self.blocks, &mut self.matches);
        if !self.raw_metrics {
            self.history.raise_matches(&self.blocks, &mut self.matches, &mut self.spare);
            // What was just sent there is certain however little was heard.
            self.trusted.extend(self.streams.iter().map(|s| {
                let report = s.trust();
                let trust = match report.trust {
                    Trust::Approximate => Trust::Exact,
                    trust => trust,
                };
                Trusted { trust, heard_at: report.since }
            }));
        }
        self.look_up_documents(job);
    }

    /// What documents behind its match save each endpoint.
    fn look_up_documents(&mut self, job: &Job) {
        if job.documents.is_empty() {
            return;
        }
        let documents = job.documents();
        let keys: Vec<_> =
            documents.iter().map(|d| ChunkKey { content: d.key, adapter: 0 }).collect();
        self.chunks.find(&keys, &mut self.chunk_hits);
        self.saved.resize(self.polled.len(), 0);
        for hit in self.chunk_hits.as_slice().iter().filter(|hit| hit.complete) {
            let document = &documents[hit.chunk];
            let matched = self.matches.blocks(hit.endpoint) * self.block_size;
            if document.start >= matched {
                self.saved[hit.endpoint.index()] += Reuse::Packet.saved_tokens(document.tokens);
            }
        }
    }

    /// Fills [`Self::loads`] from what was polled and what is in flight.
    fn bring_up_to_date(&mut self, now: Time) {
        self.loads.resize_with(self.candidates.len(), Load::default);
        for (&e, load) in self.candidates.iter().zip(&mut self.loads) {
            let polled = &self.polled[e.index()];
            load.clone_from(polled);
            self.ledger.apply(e, load, now);
            if self.raw_metrics {
                load.waiting_requests = polled.waiting_requests;
                load.running_requests = polled.running_requests;
                load.kv_usage = polled.kv_usage;
            }
        }
        if let Some(rates) = self.rates.first().filter(|_| !self.groups.is_empty()) {
            let groups: Vec<_> = self
                .candidates
                .iter()
                .map(|e| self.groups.get(e.index()).copied().flatten())
                .collect();
            kvsched_scorers::cost::lock_step(&groups, &mut self.loads, rates);
        }
    }

    /// What was sent somewhere is under way there, and probably cached there soon.
    fn enter(&mut self, number: u32, to: &Destination, prompt: u32, output: u32, now: Time) {
        let number = number as usize;
        self.tickets.resize(self.tickets.len().max(number + 1), [None; 2]);
        let (cached_tokens, answers) = (to.expected_tokens, EndpointId(to.endpoint));
        let computes =
            Routed { uncached_tokens: prompt - cached_tokens, cached_tokens, output_tokens: 0 };
        let (computer, tickets) = match to.prefill {
            None => {
                let routed = Routed { output_tokens: output, ..computes };
                (answers, [None, Some(self.ledger.route(answers, routed, now))])
            }
            Some((prefill, _)) => {
                let decodes =
                    Routed { uncached_tokens: 0, cached_tokens: prompt, output_tokens: output };
                let prefill = EndpointId(prefill);
                let first = self.ledger.route(prefill, computes, now);
                (prefill, [Some(first), Some(self.ledger.route(answers, decodes, now))])
            }
        };
        self.tickets[number] = tickets;
        if self.knowledge != Knowledge::Events || !self.raw_metrics {
            self.history.record(computer, &self.blocks, now);
        }
    }
}
