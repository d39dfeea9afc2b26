//! Admission: what a waiting request finds, what is brought for it, and whether there is room.

use super::pool::BlockId;
use super::sequence::Sequence;
use super::{Engine, StepWork, name_blocks, reusable_blocks, schedule};

/// Seconds to bring a token of a packet from host memory over PCIe.
const PACKET_SECS_PER_TOKEN: f64 = 2.4e-6;

impl Engine {
    /// Admits waiting sequences in the order they came, passing over those whose adapter has no
    /// slot, up to the first for which there is no room.
    pub(super) fn admit_waiting(&mut self, budget: &mut u32, work: &mut StepWork, now_ns: u64) {
        let mut passed_over = 0;
        while *budget > 0
            && self.running.len() + self.loading.len() < self.spec.max_running as usize
        {
            let Some(s) = self.waiting.remove(passed_over) else { return };
            if s.lora.is_some_and(|a| !self.adapters.fits(a, &self.active_adapters())) {
                self.waiting.insert(passed_over, s);
                passed_over += 1;
                continue;
            }
            if let Some(s) = self.admit(s, budget, work, now_ns) {
                self.waiting.insert(passed_over, s);
                return;
            }
        }
    }

    /// Admits one sequence; gives it back if there is no room for it.
    fn admit(
        &mut self,
        mut s: Sequence,
        budget: &mut u32,
        work: &mut StepWork,
        now_ns: u64,
    ) -> Option<Sequence> {
        let block_size = self.spec.block_size;
        let reusable = reusable_blocks(s.len(), block_size);
        s.hash_to(reusable, block_size as usize);
        let hits: Vec<BlockId> =
            s.hashes[..reusable].iter().map_while(|&h| self.pool.lookup(h)).collect();
        let loads = self.plan_loads(&s, hits.len(), reusable);
        let there = match s.transfer_ns {
            Some(_) => s.len() - 1,
            None => (hits.len() + loads.len()) as u32 * block_size,
        };
        s.computed = there;
        let packets_secs = self.find_packets(&mut s);
        let comes = !loads.is_empty() || s.transfer_ns.is_some();
        let (new, computing) = if comes { (0, 0) } else { s.reach(*budget) };
        let wanted = (there + new).div_ceil(block_size) as usize;
        let revived = hits.iter().filter(|&&b| self.pool.is_free(b)).count();
        if wanted.saturating_sub(hits.len()) + revived > self.pool.free() as usize {
            s.computed = 0;
            s.given.clear();
            return Some(s);
        }
        hits.iter().for_each(|&b| self.pool.reference(b));
        s.named = hits.len();
        s.blocks = hits;
        while s.blocks.len() < wanted {
            let Some(block) = self.take_block() else { break };
            s.blocks.push(block);
        }
        let given: u32 = s.given.iter().map(|&(start, end)| end - start).sum();
        s.cached.get_or_insert((there + given).min(s.prompt_tokens));
        work.other_secs += packets_secs;
        if let Some(adapter) = s.lora
            && self.adapters.ready(adapter, &self.active_adapters())
        {
            work.other_secs += self.spec.lora_load;
        }
        if comes {
            let tiers_done = self.start_loads(&s, &loads, now_ns);
            let arrived = s.transfer_ns.take().map_or(tiers_done, |t| now_ns + t);
            self.loading.push((arrived, s));
            return None;
        }
        schedule(&mut s, new, computing, work);
        name_blocks(&mut s, &mut self.pool, &mut self.log, block_size);
        *budget -= computing;
        self.running.push(s);
        None
    }

    /// Notes which documents behind the prefix need not be computed; the seconds to bring them.
    fn find_packets(&mut self, s: &mut Sequence) -> f64 {
        // A prompt's last token is always computed.
        let (from, to) = (s.computed, s.prompt_tokens.saturating_sub(1));
        for document in &s.documents {
            let (start, end) = (document.start, (document.start + document.tokens).min(to));
            if start >= from && start < end && self.packets.find(document) {
                s.given.push((start, end));
            }
        }
        s.given.iter().map(|g| f64::from(g.1 - g.0)).sum::<f64>() * PACKET_SECS_PER_TOKEN
    }

    /// For each block after the `hits` on the device, the fastest tier that holds it, up to the
    /// first that none does.
    fn plan_loads(&self, s: &Sequence, hits: usize, reusable: usize) -> Vec<usize> {
        if s.transfer_ns.is_some() {
            return Vec::new();
        }
        s.hashes[hits..reusable]
            .iter()
            .map_while(|&h| self.tiers.iter().position(|t| t.borrow().holds(h)))
            .collect()
    }

    /// Starts loading; when all has arrived.
    fn start_loads(&mut self, s: &Sequence, loads: &[usize], now_ns: u64) -> u64 {
        let block_bytes = u64::from(self.spec.block_size) * self.spec.kv_bytes_per_token;
        let mut done = now_ns;
        for (t, tier) in self.tiers.iter().enumerate() {
            let blocks = loads.iter().filter(|&&from| from == t).count() as u64;
            if blocks > 0 {
                done = done.max(tier.borrow_mut().load(blocks * block_bytes, now_ns));
                self.loaded_blocks += blocks;
            }
        }
        for (i, &from) in loads.iter().enumerate() {
            self.tiers[from].borrow_mut().touch(s.hashes[s.named + i]);
        }
        done
    }
}
