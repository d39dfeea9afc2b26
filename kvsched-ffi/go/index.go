package kvsched

import (
	"io"
	"runtime"
	"sync"
)

// Index knows who holds which blocks, without a scheduler around it. Safe for concurrent use: matching
// takes no lock in the library.
type Index struct {
	mu      sync.RWMutex
	own     ownedIndex
	cleanup runtime.Cleanup
}

type ownedIndex struct {
	handle indexHandle
	free   *freelist
}

func (o ownedIndex) release() {
	o.free.release()
	freeIndex(o.handle)
}

// IndexStats is what an index holds.
type IndexStats struct {
	// Blocks are distinct; Pending are those that wait for an unknown parent.
	Blocks, Pending uint64
	// Bytes are allocated.
	Bytes uint64
	// Evicted blocks were forgotten for want of budget: if more than 0, matches may be too short.
	Evicted uint64
}

// NewIndex is an index of blocks of so many tokens, in at most so many bytes, 65,536 or more; 0 for no
// limit.
func NewIndex(blockSize uint32, byteBudget uint64) (*Index, error) {
	handle, err := newIndex(blockSize, byteBudget)
	return wrapIndex(handle, err)
}

func wrapIndex(handle indexHandle, err error) (*Index, error) {
	if err != nil {
		return nil, err
	}
	i := &Index{own: ownedIndex{handle, &freelist{}}}
	i.cleanup = runtime.AddCleanup(i, ownedIndex.release, i.own)
	return i, nil
}

// Close frees the index, after the calls under way. Closing again does nothing.
func (i *Index) Close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.own.handle != nil {
		i.cleanup.Stop()
		i.own.release()
		i.own.handle = nil
	}
	return nil
}

func (i *Index) use() (indexHandle, error) {
	collect()
	i.mu.RLock()
	if i.own.handle == nil {
		i.mu.RUnlock()
		return nil, ErrClosed
	}
	return i.own.handle, nil
}

// Store says that an endpoint holds consecutive blocks in a tier, behind the block parent or, if that is
// nil, from a prompt's first block on.
func (i *Index) Store(endpoint Endpoint, tier uint32, parent *uint64, hashes []uint64) error {
	handle, err := i.use()
	if err != nil {
		return err
	}
	defer i.mu.RUnlock()
	return storeBlocks(handle, endpoint, tier, parent, hashes)
}

// Remove says that an endpoint no longer holds blocks in a tier, in any order.
func (i *Index) Remove(endpoint Endpoint, tier uint32, hashes []uint64) error {
	handle, err := i.use()
	if err != nil {
		return err
	}
	defer i.mu.RUnlock()
	return removeBlocks(handle, endpoint, tier, hashes)
}

// Clear says that an endpoint holds nothing any more.
func (i *Index) Clear(endpoint Endpoint) error {
	handle, err := i.use()
	if err != nil {
		return err
	}
	defer i.mu.RUnlock()
	return clearBlocks(handle, endpoint)
}

// Match appends to out how many leading blocks of a prompt every endpoint holds, by endpoint; those beyond
// hold none. With room in out, it allocates nothing.
func (i *Index) Match(hashes []uint64, out []uint32) ([]uint32, error) {
	handle, err := i.use()
	if err != nil {
		return out, err
	}
	defer i.mu.RUnlock()
	b, _ := i.own.free.take()
	defer i.own.free.put(b)
	if b.scratch == nil {
		if err := b.open(nil, 0, 0); err != nil {
			return out, err
		}
	}
	start := len(out)
	n, err := b.match(handle, hashes, out[start:cap(out)])
	if err != nil && n > cap(out)-start {
		out = append(make([]uint32, 0, start+n), out...)
		n, err = b.match(handle, hashes, out[start:cap(out)])
	}
	if err != nil {
		return out, err
	}
	return out[:start+n], nil
}

// Stats is what the index holds.
func (i *Index) Stats() (IndexStats, error) {
	handle, err := i.use()
	if err != nil {
		return IndexStats{}, err
	}
	defer i.mu.RUnlock()
	return indexStats(handle)
}

// WriteTo writes the index down, for RestoreIndex.
func (i *Index) WriteTo(w io.Writer) (int64, error) {
	handle, err := i.use()
	if err != nil {
		return 0, err
	}
	defer i.mu.RUnlock()
	snapshot, err := snapshotOfIndex(handle)
	if err != nil {
		return 0, err
	}
	return copySnapshot(w, snapshot)
}

// RestoreIndex is an index that was written down, within another budget perhaps.
func RestoreIndex(blockSize uint32, byteBudget uint64, r io.Reader) (*Index, error) {
	restore, err := newRestoreIndex(blockSize, byteBudget)
	if err != nil {
		return nil, err
	}
	defer freeRestore(restore)
	if err := feedRestore(restore, r); err != nil {
		return nil, err
	}
	return wrapIndex(finishRestoreIndex(restore))
}
