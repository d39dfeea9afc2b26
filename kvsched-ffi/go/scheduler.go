package kvsched

import (
	"runtime"
	"sync"
)

// ReplayEnd is the sequence number that ends a replay.
const ReplayEnd = ^uint64(0)

// Scheduler decides which endpoint serves a prompt. Safe for concurrent use: routing waits for nobody,
// messages of different endpoints are taken in side by side.
type Scheduler struct {
	// Held by every method until it returns, so that neither Close nor the garbage collector frees
	// what a call uses.
	mu      sync.RWMutex
	own     owned
	cleanup runtime.Cleanup
	seed    uint64
	memo    int
}

// owned is what C allocated for a scheduler.
type owned struct {
	handle schedulerHandle
	free   *freelist
}

func (o owned) release() {
	o.free.release()
	freeScheduler(o.handle)
}

// NewScheduler is a scheduler whose endpoints' blocks go by the names that hasher gives. The hasher may
// be closed before it. Close frees it.
func NewScheduler(hasher *Hasher, options Options) (*Scheduler, error) {
	hasher.mu.RLock()
	defer hasher.mu.RUnlock()
	if hasher.handle == nil {
		return nil, ErrClosed
	}
	handle, err := newScheduler(hasher.handle, &options)
	return wrapScheduler(handle, err, hasher, &options)
}

func wrapScheduler(handle schedulerHandle, err error, hasher *Hasher, options *Options) (*Scheduler, error) {
	if err != nil {
		return nil, err
	}
	s := &Scheduler{own: owned{handle: handle, free: &freelist{}}, seed: options.Seed, memo: options.MemoBytes}
	if s.memo == 0 && hasher.announced {
		s.memo = defaultMemo
	}
	s.cleanup = runtime.AddCleanup(s, owned.release, s.own)
	return s, nil
}

// Close frees the scheduler, after the calls under way. Closing again does nothing.
func (s *Scheduler) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.own.handle != nil {
		s.cleanup.Stop()
		s.own.release()
		s.own.handle = nil
	}
	return nil
}

// use holds the scheduler open until the function it returns is called.
func (s *Scheduler) use() (schedulerHandle, error) {
	collect()
	s.mu.RLock()
	if s.own.handle == nil {
		s.mu.RUnlock()
		return nil, ErrClosed
	}
	return s.own.handle, nil
}

// buffers are free ones, with a scratch.
func (s *Scheduler) buffers() (*buffers, error) {
	b, number := s.own.free.take()
	if b.scratch == nil {
		if err := b.open(s.own.handle, s.seed+uint64(number), s.memo); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// AddEndpoint adds rank 0 of the engine of this name. Numbers of removed endpoints are used again.
func (s *Scheduler) AddEndpoint(name string) (Endpoint, error) { return s.AddRank(name, 0) }

// AddRank adds a data-parallel rank of the engine of this name.
func (s *Scheduler) AddRank(name string, rank uint32) (Endpoint, error) {
	handle, err := s.use()
	if err != nil {
		return 0, err
	}
	defer s.mu.RUnlock()
	return addEndpoint(handle, name, rank)
}

// RemoveEndpoint forgets an endpoint and everything it holds.
func (s *Scheduler) RemoveEndpoint(endpoint Endpoint) error {
	handle, err := s.use()
	if err != nil {
		return err
	}
	defer s.mu.RUnlock()
	return removeEndpoint(handle, endpoint)
}

// FindEndpoint is the number of a rank of the engine of this name.
func (s *Scheduler) FindEndpoint(name string, rank uint32) (Endpoint, error) {
	handle, err := s.use()
	if err != nil {
		return 0, err
	}
	defer s.mu.RUnlock()
	return findEndpoint(handle, name, rank)
}

// EndpointName is the name of an endpoint's engine.
func (s *Scheduler) EndpointName(endpoint Endpoint) (string, error) {
	handle, err := s.use()
	if err != nil {
		return "", err
	}
	defer s.mu.RUnlock()
	return endpointName(handle, endpoint)
}

// SetLabel sets a label of an endpoint, such as its role or zone, for filters and scorers to read.
func (s *Scheduler) SetLabel(endpoint Endpoint, key, value string) error {
	handle, err := s.use()
	if err != nil {
		return err
	}
	defer s.mu.RUnlock()
	return setLabel(handle, endpoint, key, value)
}

// Ingest takes in one message of an engine's event stream: its sequence number and payload as the
// socket delivered them. The outcome says whether the engine must be asked for a replay. The payload
// is not kept.
func (s *Scheduler) Ingest(endpoint Endpoint, sequence uint64, payload []byte, now int64) (Ingested, error) {
	handle, err := s.use()
	if err != nil {
		return Ingested{}, err
	}
	defer s.mu.RUnlock()
	return ingest(handle, endpoint, sequence, payload, now)
}

// IngestTopic is Ingest for a socket that several engines publish to, each under a topic of the form
// kv@NAME@MODEL: the message is of the rank of the engine of that name, which is returned.
func (s *Scheduler) IngestTopic(topic string, rank uint32, sequence uint64, payload []byte, now int64) (Endpoint, Ingested, error) {
	handle, err := s.use()
	if err != nil {
		return 0, Ingested{}, err
	}
	defer s.mu.RUnlock()
	return ingestTopic(handle, topic, rank, sequence, payload, now)
}

// Replayed takes in one message of the replay that was asked for, up to the one with ReplayEnd.
func (s *Scheduler) Replayed(endpoint Endpoint, sequence uint64, payload []byte, now int64) (Ingested, error) {
	handle, err := s.use()
	if err != nil {
		return Ingested{}, err
	}
	defer s.mu.RUnlock()
	return replayed(handle, endpoint, sequence, payload, now)
}

// Tick lets time pass for an endpoint's stream: call it every second or so.
func (s *Scheduler) Tick(endpoint Endpoint, now int64) (Ingested, error) {
	handle, err := s.use()
	if err != nil {
		return Ingested{}, err
	}
	defer s.mu.RUnlock()
	return tick(handle, endpoint, now)
}

// Trust is how far the picture of an endpoint's cache can be believed, and why.
func (s *Scheduler) Trust(endpoint Endpoint) (Report, error) {
	handle, err := s.use()
	if err != nil {
		return Report{}, err
	}
	defer s.mu.RUnlock()
	return trust(handle, endpoint)
}

// Diagnose is what is wrong between an endpoint's engine and the scheduler, line by line, with what to do
// about it; empty where nothing is known to be, or nobody checks (Options.Fallback).
func (s *Scheduler) Diagnose(endpoint Endpoint) (string, error) {
	handle, err := s.use()
	if err != nil {
		return "", err
	}
	defer s.mu.RUnlock()
	return diagnose(handle, endpoint)
}

// Stats is what the scheduler has seen.
func (s *Scheduler) Stats() (Stats, error) {
	handle, err := s.use()
	if err != nil {
		return Stats{}, err
	}
	defer s.mu.RUnlock()
	return stats(handle)
}

// Route chooses an endpoint: one call of C, and nothing allocated once it is warm.
func (s *Scheduler) Route(request *Request) (Decision, error) {
	return s.route(request, nil, nil)
}

// RouteRanked is Route, and puts all candidates into ranked: the chosen one, the others by falling
// score, those that a filter dropped.
func (s *Scheduler) RouteRanked(request *Request, ranked *[]Ranked) (Decision, error) {
	return s.route(request, ranked, nil)
}

// RouteExplained is Route, and says why: every candidate with every score, line by line.
func (s *Scheduler) RouteExplained(request *Request) (Decision, string, error) {
	var why string
	decision, err := s.route(request, nil, &why)
	return decision, why, err
}

func (s *Scheduler) route(request *Request, ranked *[]Ranked, why *string) (Decision, error) {
	handle, err := s.use()
	if err != nil {
		return Decision{}, err
	}
	defer s.mu.RUnlock()
	b, err := s.buffers()
	if err != nil {
		return Decision{}, err
	}
	defer s.own.free.put(b)
	decision, err := b.route(handle, request, ranked)
	if err == nil && why != nil {
		*why, err = b.explain(handle)
	}
	return decision, err
}

// CachedTokens is how many of a prompt's tokens an endpoint would serve from its cache.
func (s *Scheduler) CachedTokens(endpoint Endpoint, prompt *Prompt) (int, error) {
	handle, err := s.use()
	if err != nil {
		return 0, err
	}
	defer s.mu.RUnlock()
	b, err := s.buffers()
	if err != nil {
		return 0, err
	}
	defer s.own.free.put(b)
	return b.cachedTokens(handle, endpoint, prompt)
}

// Matches is how many leading blocks of a prompt every endpoint holds, by endpoint; those beyond hold
// none. Any one endpoint that exists has to be named.
func (s *Scheduler) Matches(any Endpoint, prompt *Prompt) ([]uint32, error) {
	handle, err := s.use()
	if err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	b, err := s.buffers()
	if err != nil {
		return nil, err
	}
	defer s.own.free.put(b)
	if _, err := b.cachedTokens(handle, any, prompt); err != nil {
		return nil, err
	}
	return b.matches()
}

// SetCacheBlocks says how many blocks an endpoint's cache holds, where a scheduler with a history was
// told another number for all.
func (s *Scheduler) SetCacheBlocks(endpoint Endpoint, blocks uint32) error {
	handle, err := s.use()
	if err != nil {
		return err
	}
	defer s.mu.RUnlock()
	return setCacheBlocks(handle, endpoint, blocks)
}

// Record says that a prompt was sent to an endpoint, where that was not left to Route. A scheduler
// with a history learns from it, others expect it there until events tell; with a ledger, it counts as
// under way until Finish of the ticket.
func (s *Scheduler) Record(endpoint Endpoint, prompt *Prompt, now int64) (Ticket, error) {
	handle, err := s.use()
	if err != nil {
		return 0, err
	}
	defer s.mu.RUnlock()
	b, err := s.buffers()
	if err != nil {
		return 0, err
	}
	defer s.own.free.put(b)
	if _, err := b.cachedTokens(handle, endpoint, prompt); err != nil {
		return 0, err
	}
	return b.record(handle, endpoint, now)
}
