package kvsched

import (
	"errors"
	"io"
)

// WriteTo writes down the fleet and all that its caches hold: for a second replica, or for this one after a
// restart. Routing goes on meanwhile; events and changes of the fleet wait. Versioned and checksummed.
func (s *Scheduler) WriteTo(w io.Writer) (int64, error) {
	handle, err := s.use()
	if err != nil {
		return 0, err
	}
	defer s.mu.RUnlock()
	snapshot, err := snapshotOf(handle)
	if err != nil {
		return 0, err
	}
	return copySnapshot(w, snapshot)
}

// RestoreScheduler is a scheduler that begins with what another wrote down. The hasher has to give the same
// names as the other's; the endpoints have the numbers they had (Scheduler.Endpoints). Ask each engine for a
// replay from NextSequence, or just subscribe and do what Ingest says.
func RestoreScheduler(hasher *Hasher, options Options, r io.Reader, now int64) (*Scheduler, error) {
	hasher.mu.RLock()
	defer hasher.mu.RUnlock()
	if hasher.handle == nil {
		return nil, ErrClosed
	}
	restore, err := newRestore(hasher.handle, &options)
	if err != nil {
		return nil, err
	}
	defer freeRestore(restore)
	if err := feedRestore(restore, r); err != nil {
		return nil, err
	}
	handle, err := finishRestore(restore, now)
	return wrapScheduler(handle, err, hasher, &options)
}

// Endpoints are all that there are.
func (s *Scheduler) Endpoints() ([]Endpoint, error) {
	handle, err := s.use()
	if err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	return listEndpoints(handle)
}

// NextSequence is the number of the next message that an endpoint's stream waits for: all before it are
// known.
func (s *Scheduler) NextSequence(endpoint Endpoint) (uint64, error) {
	handle, err := s.use()
	if err != nil {
		return 0, err
	}
	defer s.mu.RUnlock()
	return nextSequence(handle, endpoint)
}

// copySnapshot writes a snapshot and frees it.
func copySnapshot(w io.Writer, snapshot snapshotHandle) (written int64, err error) {
	defer freeSnapshot(snapshot)
	for piece := make([]byte, 64<<10); ; {
		n, err := readSnapshot(snapshot, piece)
		if err != nil || n == 0 {
			return written, err
		}
		n, err = w.Write(piece[:n])
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
}

func feedRestore(restore restoreHandle, r io.Reader) error {
	for piece := make([]byte, 64<<10); ; {
		n, err := r.Read(piece)
		if pushed := pushRestore(restore, piece[:n]); pushed != nil {
			return pushed
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
