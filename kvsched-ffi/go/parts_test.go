package kvsched_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"kvsched.local/kvsched"
)

func TestASchedulerIsWrittenDownAndRestored(t *testing.T) {
	h := newHasher(t)
	s := must[*kvsched.Scheduler](t)(kvsched.NewScheduler(h, kvsched.Options{}))
	defer s.Close()
	a := must[kvsched.Endpoint](t)(s.AddEndpoint("a"))
	b := must[kvsched.Endpoint](t)(s.AddEndpoint("b"))
	p := kvsched.Prompt{Tokens: count(100)}
	hashes := must[[]uint64](t)(h.Hash(p, nil))
	must[kvsched.Ingested](t)(s.Ingest(b, 0, storedMessage(hashes[:5], p.Tokens[:80], 16), 1))
	var file bytes.Buffer
	if n := must[int64](t)(s.WriteTo(&file)); n != int64(file.Len()) || n == 0 {
		t.Fatal(n)
	}
	whole := bytes.Clone(file.Bytes())
	r := must[*kvsched.Scheduler](t)(kvsched.RestoreScheduler(h, kvsched.Options{}, &file, 2))
	defer r.Close()
	if got := must[[]kvsched.Endpoint](t)(r.Endpoints()); fmt.Sprint(got) != fmt.Sprint([]kvsched.Endpoint{a, b}) {
		t.Fatal(got)
	}
	if got := must[int](t)(r.CachedTokens(b, &p)); got != 80 {
		t.Fatal(got)
	}
	if got := must[uint64](t)(r.NextSequence(b)); got != 1 {
		t.Fatal(got)
	}
	for what, text := range map[string][]byte{
		"too short": whole[:len(whole)-1], "changed": append([]byte{1}, whole[1:]...), "empty": nil,
	} {
		if _, err := kvsched.RestoreScheduler(h, kvsched.Options{}, bytes.NewReader(text), 2); !errors.Is(err, kvsched.ErrSnapshot) {
			t.Errorf("%s: %v", what, err)
		}
	}
	seed := "1"
	other := must[*kvsched.Hasher](t)(kvsched.NewVLLMHasher(kvsched.VLLM{Version: "0.33.0", Seed: &seed}))
	defer other.Close()
	if _, err := kvsched.RestoreScheduler(other, kvsched.Options{}, bytes.NewReader(whole), 2); !errors.Is(err, kvsched.ErrSnapshot) {
		t.Fatal(err)
	}
}

func TestAnIndexWithoutAScheduler(t *testing.T) {
	i := must[*kvsched.Index](t)(kvsched.NewIndex(16, 0))
	defer i.Close()
	for _, err := range []error{
		i.Store(0, 0, nil, []uint64{1, 2}),
		i.Store(2, 0, nil, []uint64{1, 2, 3}),
		i.Store(0, 1, &[]uint64{2}[0], []uint64{3}),
		i.Remove(2, 0, []uint64{3}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	prompt := []uint64{1, 2, 3, 4}
	if got := must[[]uint32](t)(i.Match(prompt, nil)); fmt.Sprint(got) != "[3 0 2]" {
		t.Fatal(got)
	}
	var file bytes.Buffer
	must[int64](t)(i.WriteTo(&file))
	r := must[*kvsched.Index](t)(kvsched.RestoreIndex(16, 1<<20, &file))
	defer r.Close()
	if err := i.Clear(0); err != nil {
		t.Fatal(err)
	}
	if got := must[[]uint32](t)(r.Match(prompt, []uint32{9})); fmt.Sprint(got) != "[9 3 0 2]" {
		t.Fatal(got)
	}
	if stats := must[kvsched.IndexStats](t)(r.Stats()); stats.Blocks != 3 || stats.Evicted != 0 {
		t.Fatalf("%+v", stats)
	}
	if err := i.Store(1<<20, 0, nil, prompt); !errors.Is(err, kvsched.ErrUnknownEndpoint) {
		t.Fatal(err)
	}
	room := make([]uint32, 0, 8)
	if !collecting {
		if n := testing.AllocsPerRun(100, func() { must[[]uint32](t)(r.Match(prompt, room)) }); n != 0 {
			t.Fatal("allocations:", n)
		}
	}
	i.Close()
	if _, err := i.Match(prompt, nil); !errors.Is(err, kvsched.ErrClosed) {
		t.Fatal(err)
	}
	if _, err := kvsched.NewIndex(0, 0); !errors.Is(err, kvsched.ErrInvalid) {
		t.Fatal(err)
	}
}

func TestAStreamIntoAnIndex(t *testing.T) {
	h := must[*kvsched.Hasher](t)(kvsched.NewContentHasher("m", []byte("sixteen or more random bytes"), 16))
	defer h.Close()
	i := must[*kvsched.Index](t)(kvsched.NewIndex(16, 0))
	defer i.Close()
	p := kvsched.Prompt{Tokens: count(48)}
	engine := []uint64{7, 8, 9}
	for endpoint, hasher := range []*kvsched.Hasher{h, nil} {
		s := must[*kvsched.Stream](t)(kvsched.NewStream(kvsched.Endpoint(endpoint), i, hasher))
		if got := must[kvsched.Ingested](t)(s.Receive(0, storedMessage(engine, p.Tokens, 16), 1)); got.Stored != 3 {
			t.Fatalf("%+v", got)
		}
		if got := must[kvsched.Ingested](t)(s.Receive(2, storedMessage(engine, p.Tokens, 16), 2)); !got.NeedsReplay || got.ReplayFrom != 1 {
			t.Fatalf("%+v", got)
		}
		must[kvsched.Ingested](t)(s.Replayed(kvsched.ReplayEnd, nil, 3))
		must[kvsched.Ingested](t)(s.Tick(4))
		s.Close()
		s.Close()
		if _, err := s.Tick(5); !errors.Is(err, kvsched.ErrClosed) {
			t.Fatal(err)
		}
	}
	named := must[[]uint64](t)(h.Hash(p, nil))
	if got := must[[]uint32](t)(i.Match(named, nil)); got[0] != 3 {
		t.Fatal(got)
	}
	if got := must[[]uint32](t)(i.Match(engine, nil)); len(got) != 2 || got[1] != 3 {
		t.Fatal(got)
	}
}
