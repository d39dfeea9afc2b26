package kvsched

import (
	"runtime"
	"sync"
)

// Stream is one endpoint's numbered messages on their way into an Index. Safe for concurrent use, but
// messages are to come in the order in which they arrived.
type Stream struct {
	mu      sync.Mutex
	handle  streamHandle
	index   *Index
	hasher  *Hasher
	cleanup runtime.Cleanup
}

// NewStream is the stream of an endpoint of which nothing is known, into an index. Blocks are named as
// hasher names them; if that is nil, as the engine does. Both are to outlive the stream.
func NewStream(endpoint Endpoint, index *Index, hasher *Hasher) (*Stream, error) {
	handle, err := newStream(endpoint)
	if err != nil {
		return nil, err
	}
	s := &Stream{handle: handle, index: index, hasher: hasher}
	s.cleanup = runtime.AddCleanup(s, freeStream, handle)
	return s, nil
}

// Close frees the stream. What its endpoint holds stays in the index. Closing again does nothing.
func (s *Stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handle != nil {
		s.cleanup.Stop()
		freeStream(s.handle)
		s.handle = nil
	}
	return nil
}

// Receive takes in one message, as Scheduler.Ingest does.
func (s *Stream) Receive(sequence uint64, payload []byte, now int64) (Ingested, error) {
	return s.hear(func(index indexHandle, hasher hasherHandle) (Ingested, error) {
		return streamReceive(s.handle, index, hasher, sequence, payload, now)
	})
}

// Replayed takes in one message of the replay that was asked for, up to the one with ReplayEnd.
func (s *Stream) Replayed(sequence uint64, payload []byte, now int64) (Ingested, error) {
	return s.hear(func(index indexHandle, hasher hasherHandle) (Ingested, error) {
		return streamReplayed(s.handle, index, hasher, sequence, payload, now)
	})
}

// Tick lets time pass: call it every second or so.
func (s *Stream) Tick(now int64) (Ingested, error) {
	return s.hear(func(index indexHandle, hasher hasherHandle) (Ingested, error) {
		return streamTick(s.handle, index, hasher, now)
	})
}

// hear holds all three open.
func (s *Stream) hear(say func(indexHandle, hasherHandle) (Ingested, error)) (Ingested, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handle == nil {
		return Ingested{}, ErrClosed
	}
	index, err := s.index.use()
	if err != nil {
		return Ingested{}, err
	}
	defer s.index.mu.RUnlock()
	var hasher hasherHandle
	if s.hasher != nil {
		s.hasher.mu.RLock()
		defer s.hasher.mu.RUnlock()
		if hasher = s.hasher.handle; hasher == nil {
			return Ingested{}, ErrClosed
		}
	}
	return say(index, hasher)
}
