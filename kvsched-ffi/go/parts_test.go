package kvsched_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

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

func TestAnEngineThatHashesOtherwiseIsFoundOut(t *testing.T) {
	content := must[*kvsched.Hasher](t)(kvsched.NewContentHasher("m", []byte("sixteen or more random bytes"), 16))
	s := must[*kvsched.Scheduler](t)(kvsched.NewScheduler(newHasher(t), kvsched.Options{Fallback: content}))
	defer s.Close()
	content.Close()
	a := must[kvsched.Endpoint](t)(s.AddEndpoint("a"))
	if told := must[string](t)(s.Diagnose(a)); told != "" {
		t.Fatal(told)
	}
	p := kvsched.Prompt{Tokens: count(100)}
	must[kvsched.Ingested](t)(s.Ingest(a, 0, storedMessage([]uint64{7, 8}, p.Tokens[:32], 16), 1))
	if told := must[string](t)(s.Diagnose(a)); told == "" {
		t.Fatal("hashes of no scheme pass")
	}
	if got := must[int](t)(s.CachedTokens(a, &p)); got != 32 {
		t.Fatal(got)
	}
	if _, err := kvsched.NewScheduler(newHasher(t), kvsched.Options{Fallback: content}); !errors.Is(err, kvsched.ErrClosed) {
		t.Fatal(err)
	}
}

func TestPromptsAsHashesAndText(t *testing.T) {
	h := newHasher(t)
	s := newScheduler(t, kvsched.Options{HistoryBlocks: 100})
	a := must[kvsched.Endpoint](t)(s.AddEndpoint("a"))
	p := kvsched.Prompt{Tokens: count(97)}
	r := &kvsched.Request{Hashes: must[[]uint64](t)(h.Hash(p, nil)), Candidates: []kvsched.Candidate{{Endpoint: a}}, Record: true}
	if d := must[kvsched.Decision](t)(s.Route(r)); d.MatchedBlocks != 0 || d.PromptBlocks != 6 {
		t.Fatalf("%+v", d)
	}
	if d := must[kvsched.Decision](t)(s.Route(r)); d.MatchedBlocks != 6 {
		t.Fatalf("%+v", d)
	}
	if !collecting {
		if n := testing.AllocsPerRun(100, func() { must[kvsched.Decision](t)(s.Route(r)) }); n != 0 {
			t.Fatal("allocations:", n)
		}
	}
	r.Hashes = []uint64{}
	if d := must[kvsched.Decision](t)(s.Route(r)); d.PromptBlocks != 0 {
		t.Fatalf("%+v", d)
	}
	text := strings.Repeat("0123456789abcdef", 3) + "and a little more"
	for _, want := range []uint32{0, 1} {
		written := &kvsched.Request{Text: text, Candidates: r.Candidates, Record: true}
		if d := must[kvsched.Decision](t)(s.Route(written)); d.PromptBlocks != 1 || d.MatchedBlocks != want {
			t.Fatalf("%+v", d)
		}
	}
	p.Tokens = must[[]uint32](t)(kvsched.TextTokens(text, nil))
	if got := must[int](t)(s.CachedTokens(a, &p)); got != 16 {
		t.Fatal(got)
	}
	if _, err := s.Route(&kvsched.Request{Text: text, Prompt: p, Candidates: r.Candidates}); !errors.Is(err, kvsched.ErrInvalid) {
		t.Fatal(err)
	}
	if got := must[[]uint32](t)(kvsched.TextTokens("abcdefg", []uint32{1})); fmt.Sprint(got) != "[1 6382179 6579558]" {
		t.Fatal(got)
	}
	if _, err := kvsched.TextTokens("\xff\xff\xff", nil); !errors.Is(err, kvsched.ErrInvalid) {
		t.Fatal(err)
	}
}

func TestOneSocketOfSeveralEngines(t *testing.T) {
	s := newScheduler(t, kvsched.Options{})
	must[kvsched.Endpoint](t)(s.AddEndpoint("pod-a"))
	b := must[kvsched.Endpoint](t)(s.AddEndpoint("pod-b"))
	p := kvsched.Prompt{Tokens: count(33)}
	payload := storedMessage(must[[]uint64](t)(newHasher(t).Hash(p, nil)), p.Tokens[:32], 16)
	of, heard, err := s.IngestTopic("kv@pod-b@org/model", 0, 0, payload, 1)
	if err != nil || of != b || heard.Stored != 2 {
		t.Fatal(of, heard, err)
	}
	if got := must[int](t)(s.CachedTokens(b, &p)); got != 32 {
		t.Fatal(got)
	}
	if _, _, err := s.IngestTopic("kv@pod-c@org/model", 0, 0, payload, 1); !errors.Is(err, kvsched.ErrUnknownEndpoint) {
		t.Fatal(err)
	}
	if _, _, err := s.IngestTopic("kv-events", 0, 0, payload, 1); !errors.Is(err, kvsched.ErrInvalid) {
		t.Fatal(err)
	}
}

// Not only routing: what happens once a request or a message allocates nothing either.
func TestWarmCallsAllocateNothing(t *testing.T) {
	if collecting {
		t.Skip("collections and the race detector allocate")
	}
	s := newScheduler(t, kvsched.Options{InFlightLease: time.Hour})
	a := must[kvsched.Endpoint](t)(s.AddEndpoint("a"))
	p := kvsched.Prompt{Tokens: count(100)}
	payload := storedMessage([]uint64{7}, p.Tokens[:16], 16)
	sequence := uint64(0)
	for name, call := range map[string]func(){
		"cached tokens": func() { must[int](t)(s.CachedTokens(a, &p)) },
		"ledger": func() {
			ticket := must[kvsched.Ticket](t)(s.Record(a, &p, 1))
			if err := errors.Join(s.FirstToken(ticket), s.Finish(ticket, 1, 2)); err != nil {
				t.Fatal(err)
			}
			must[kvsched.Outstanding](t)(s.Outstanding(a))
		},
		"ingest": func() {
			must[kvsched.Ingested](t)(s.Ingest(a, sequence, payload, 1))
			must[kvsched.Ingested](t)(s.Tick(a, 1))
			sequence++
		},
	} {
		if n := testing.AllocsPerRun(100, call); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
