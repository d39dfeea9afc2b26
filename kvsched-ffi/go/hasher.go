package kvsched

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// VLLM says how a vLLM engine names its blocks.
type VLLM struct {
	// Version is the engine's, as "0.33.0".
	Version string
	// Algorithm is its --prefix-caching-hash-algo; empty for the default, sha256.
	Algorithm string
	// Seed is its PYTHONHASHSEED; nil where that is unset.
	Seed *string
	// BlockSize is in tokens; 0 for the default, 16.
	BlockSize int
}

// Hasher turns prompts into block hashes. Safe for concurrent use.
type Hasher struct {
	mu      sync.RWMutex
	handle  hasherHandle
	cleanup runtime.Cleanup
	free    freelist
	// Whether an engine announces the same names.
	announced bool
}

// NewVLLMHasher is a hasher that reproduces an engine's own hashes.
func NewVLLMHasher(engine VLLM) (*Hasher, error) {
	if engine.Algorithm == "" {
		engine.Algorithm = "sha256"
	}
	if engine.BlockSize == 0 {
		engine.BlockSize = 16
	}
	handle, err := newVLLMHasher(engine.Version, engine.Algorithm, engine.Seed, engine.BlockSize)
	return wrapHasher(handle, err, true)
}

// NewContentHasher is a hasher of kvsched's own scheme, for engines whose hashes cannot be computed or
// need not be: blocks are named by the tokens that events carry. Secret is 16 or more random bytes that
// replicas share and tenants do not know.
func NewContentHasher(model string, secret []byte, blockSize int) (*Hasher, error) {
	handle, err := newContentHasher(model, secret, blockSize)
	return wrapHasher(handle, err, false)
}

func wrapHasher(handle hasherHandle, err error, announced bool) (*Hasher, error) {
	if err != nil {
		return nil, err
	}
	h := &Hasher{handle: handle, announced: announced}
	h.cleanup = runtime.AddCleanup(h, freeHasher, handle)
	return h, nil
}

// Hash appends the hashes of all full blocks of a prompt to out, which may be nil.
func (h *Hasher) Hash(prompt Prompt, out []uint64) ([]uint64, error) {
	collect()
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.handle == nil {
		return out, ErrClosed
	}
	b, _ := h.free.take()
	defer h.free.put(b)
	start := len(out)
	n, err := b.hash(h.handle, &prompt, out[start:cap(out)])
	if err != nil && n > cap(out)-start {
		grown := make([]uint64, start, start+n)
		copy(grown, out)
		out = grown
		n, err = b.hash(h.handle, &prompt, out[start:cap(out)])
	}
	if err != nil {
		return out, err
	}
	return out[:start+n], nil
}

// Close frees the hasher. Schedulers made with it live on. Closing again does nothing.
func (h *Hasher) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.handle != nil {
		h.cleanup.Stop()
		freeHasher(h.handle)
		h.handle = nil
	}
	return nil
}

// freelist keeps buffers that no call is using. Its zero value is empty.
type freelist struct {
	last atomic.Pointer[buffers] // where one call at a time is the rule, no lock is taken
	mu   sync.Mutex
	list []*buffers
	made int
}

// take is a free one, or a new one without a scratch, and its number.
func (f *freelist) take() (*buffers, int) {
	if b := f.last.Swap(nil); b != nil {
		return b, 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.list); n > 0 {
		b := f.list[n-1]
		f.list = f.list[:n-1]
		return b, f.made
	}
	f.made++
	return &buffers{}, f.made
}

// release frees the scratches, which nobody uses any more.
func (f *freelist) release() {
	if b := f.last.Swap(nil); b != nil {
		f.list = append(f.list, b)
	}
	for _, b := range f.list {
		freeScratch(b.scratch)
	}
	f.list = nil
}

func (f *freelist) put(b *buffers) {
	if f.last.CompareAndSwap(nil, b) {
		return
	}
	f.mu.Lock()
	f.list = append(f.list, b)
	f.mu.Unlock()
}
