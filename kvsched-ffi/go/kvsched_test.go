package kvsched_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"kvsched.local/kvsched"
)

func must[T any](t testing.TB) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func newHasher(t testing.TB) *kvsched.Hasher {
	h := must[*kvsched.Hasher](t)(kvsched.NewVLLMHasher(kvsched.VLLM{Version: "0.33.0"}))
	t.Cleanup(func() { h.Close() })
	return h
}

func newScheduler(t testing.TB, o kvsched.Options) *kvsched.Scheduler {
	s := must[*kvsched.Scheduler](t)(kvsched.NewScheduler(newHasher(t), o))
	t.Cleanup(func() { s.Close() })
	return s
}

func count(n int) []uint32 {
	tokens := make([]uint32, n)
	for i := range tokens {
		tokens[i] = uint32(i)
	}
	return tokens
}

func TestErrorsWrapTheirKindAndSayWhatIsWrong(t *testing.T) {
	h := newHasher(t)
	s := newScheduler(t, kvsched.Options{})
	a := must[kvsched.Endpoint](t)(s.AddEndpoint("a"))
	empty := &kvsched.Request{Prompt: kvsched.Prompt{Tokens: count(40)}}
	big := kvsched.Prompt{Tokens: []uint32{1 << 31, 15: 0}}
	for _, c := range []struct {
		name string
		call func() error
		kind error
		text string
	}{
		{"scheme", func() error { _, err := kvsched.NewVLLMHasher(kvsched.VLLM{Version: "0.8"}); return err },
			kvsched.ErrScheme, "older than 0.9.0"},
		{"block size", func() error {
			_, err := kvsched.NewVLLMHasher(kvsched.VLLM{Version: "0.33", BlockSize: -1})
			return err
		}, kvsched.ErrInvalid, "block size"},
		{"utf8", func() error { _, err := s.AddEndpoint("\xff"); return err }, kvsched.ErrInvalid, "`name`"},
		{"unnamed", func() error { _, err := s.AddEndpoint(""); return err }, kvsched.ErrInvalid, "without a name"},
		{"preset", func() error { _, err := kvsched.NewScheduler(h, kvsched.Options{Preset: "dynamoo"}); return err },
			kvsched.ErrConfig, "did you mean `dynamo`"},
		{"config", func() error {
			_, err := kvsched.NewScheduler(h, kvsched.Options{Config: "plugins: [{type: queue-scoer}]"})
			return err
		}, kvsched.ErrConfig, "did you mean `queue-scorer`"},
		{"taken", func() error { _, err := s.AddEndpoint("a"); return err }, kvsched.ErrNameTaken, "`a`"},
		{"unknown", func() error { return s.RemoveEndpoint(99) }, kvsched.ErrUnknownEndpoint, "endpoint 99"},
		{"find", func() error { _, err := s.FindEndpoint("a", 3); return err }, kvsched.ErrUnknownEndpoint, "rank 3"},
		{"ingest", func() error { _, err := s.Ingest(99, 0, nil, 0); return err }, kvsched.ErrUnknownEndpoint, "99"},
		{"nobody", func() error { _, err := s.Route(empty); return err }, kvsched.ErrNoEndpoint, "no candidate"},
		{"prompt", func() error { _, err := h.Hash(big, nil); return err }, kvsched.ErrPrompt, "2147483648"},
		{"embeds", func() error {
			p := kvsched.Prompt{Tokens: count(16), Embeds: &kvsched.Embeds{Bytes: []byte{1}}}
			_, err := s.CachedTokens(a, &p)
			return err
		}, kvsched.ErrInvalid, "`embeds_row` is 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.call()
			var typed *kvsched.Error
			if !errors.Is(err, c.kind) || !errors.As(err, &typed) || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("%v is not %v with %q", err, c.kind, c.text)
			}
		})
	}
}

func TestCloseIsIdempotentAndEndsEverything(t *testing.T) {
	h := newHasher(t)
	s := must[*kvsched.Scheduler](t)(kvsched.NewScheduler(h, kvsched.Options{}))
	a := must[kvsched.Endpoint](t)(s.AddEndpoint("a"))
	for range 2 {
		if err := errors.Join(h.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	request := &kvsched.Request{Candidates: []kvsched.Candidate{{Endpoint: a}}}
	_, hashed := h.Hash(kvsched.Prompt{}, nil)
	_, made := kvsched.NewScheduler(h, kvsched.Options{})
	_, routed := s.Route(request)
	_, added := s.AddEndpoint("b")
	_, heard := s.Ingest(a, 0, nil, 0)
	_, seen := s.Stats()
	for i, err := range []error{hashed, made, routed, added, heard, seen, s.RemoveEndpoint(a)} {
		if !errors.Is(err, kvsched.ErrClosed) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestHashesAppendAndDependOnWhatTheEngineHashes(t *testing.T) {
	h := newHasher(t)
	plain := must[[]uint64](t)(h.Hash(kvsched.Prompt{Tokens: count(100)}, nil))
	if len(plain) != 6 {
		t.Fatal(plain)
	}
	more := must[[]uint64](t)(h.Hash(kvsched.Prompt{Tokens: count(100)}, []uint64{7}))
	if len(more) != 7 || more[0] != 7 || more[6] != plain[5] {
		t.Fatal(more)
	}
	for name, p := range map[string]kvsched.Prompt{
		"salt":   {CacheSalt: "s"},
		"lora":   {LoRA: &kvsched.LoRA{Name: "sql", Path: "/adapters/sql", ID: 1}},
		"image":  {Multimodal: []kvsched.MultimodalItem{{Identifier: "3f2a", Offset: 2, Length: 4}}},
		"embeds": {Embeds: &kvsched.Embeds{Bytes: make([]byte, 400), RowBytes: 4}},
	} {
		p.Tokens = count(100)
		got := must[[]uint64](t)(h.Hash(p, nil))
		if len(got) != 6 || got[0] == plain[0] {
			t.Errorf("%s: %x", name, got)
		}
	}
}

func TestAHistoryLearnsWhatIsRecorded(t *testing.T) {
	secret := []byte("sixteen or more random bytes")
	h := must[*kvsched.Hasher](t)(kvsched.NewContentHasher("model", secret, 16))
	defer h.Close()
	s := must[*kvsched.Scheduler](t)(kvsched.NewScheduler(h, kvsched.Options{HistoryBlocks: 100}))
	defer s.Close()
	a := must[kvsched.Endpoint](t)(s.AddEndpoint("a"))
	b := must[kvsched.Endpoint](t)(s.AddEndpoint("b"))
	p := kvsched.Prompt{Tokens: count(100)}
	r := &kvsched.Request{Prompt: p, Candidates: []kvsched.Candidate{{Endpoint: a}, {Endpoint: b}}, Record: true}
	first := must[kvsched.Decision](t)(s.Route(r))
	second := must[kvsched.Decision](t)(s.Route(r))
	if first.MatchedBlocks != 0 || second.MatchedBlocks != 6 || second.Endpoint != first.Endpoint {
		t.Fatal(first, second)
	}
	other := a + b - first.Endpoint
	if ticket := must[kvsched.Ticket](t)(s.Record(other, &p, 1)); ticket != 0 {
		t.Fatal("a ticket without a ledger:", ticket)
	}
	if got := must[int](t)(s.CachedTokens(other, &p)); got != 96 {
		t.Fatal(got)
	}
	if got := must[[]uint32](t)(s.Matches(a, &p)); fmt.Sprint(got) != "[6 6]" {
		t.Fatal(got)
	}
}

func TestTheLedgerCountsWhatWasSent(t *testing.T) {
	s := newScheduler(t, kvsched.Options{InFlightLease: time.Minute})
	a := must[kvsched.Endpoint](t)(s.AddEndpoint("a"))
	b := must[kvsched.Endpoint](t)(s.AddEndpoint("b"))
	r := &kvsched.Request{
		Prompt: kvsched.Prompt{Tokens: count(100)}, Candidates: []kvsched.Candidate{{Endpoint: a}},
		Now: 1, Record: true, ExpectedOutputTokens: 7,
	}
	first := must[kvsched.Decision](t)(s.Route(r))
	want := kvsched.Outstanding{Requests: 1, PrefillTokens: 100, KVTokens: 107}
	if got := must[kvsched.Outstanding](t)(s.Outstanding(a)); got != want || first.Ticket == 0 {
		t.Fatalf("%+v", got)
	}
	// Expected where it was sent, until an event tells or a while has passed.
	if second := must[kvsched.Decision](t)(s.Route(r)); second.MatchedBlocks != 6 {
		t.Fatal(second)
	}
	for _, say := range []func() error{
		func() error { return s.FirstToken(first.Ticket) },
		func() error { return s.Finish(first.Ticket, 7, 2) },
		func() error { return s.FirstToken(0) },
		func() error { return s.Finish(0, 7, 2) },
	} {
		if err := say(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Finish(first.Ticket, 7, 3); !errors.Is(err, kvsched.ErrUnknownTicket) {
		t.Fatal("a request ended twice:", err)
	}
	// The other one counts, though the metrics of both are alike.
	r.Candidates, r.Record, r.Now = []kvsched.Candidate{{Endpoint: a}, {Endpoint: b}}, false, 1<<33
	must[kvsched.Ingested](t)(s.Tick(a, 1<<33))
	if d := must[kvsched.Decision](t)(s.Route(r)); d.Endpoint != b {
		t.Fatal(d)
	}
	// What was looked up and recorded counts with its own length.
	must[kvsched.Ticket](t)(s.Record(b, &kvsched.Prompt{Tokens: count(40)}, 1<<33))
	if got := must[kvsched.Outstanding](t)(s.Outstanding(b)); got.PrefillTokens != 40 {
		t.Fatalf("%+v", got)
	}
	if err := s.SetCacheBlocks(99, 1); !errors.Is(err, kvsched.ErrUnknownEndpoint) {
		t.Fatal(err)
	}
}

func TestLabelsSessionsAndLoRAReachThePolicy(t *testing.T) {
	s := newScheduler(t, kvsched.Options{Config: `
plugins:
- type: by-label
  parameters: {label: role, validValues: [decode]}
- type: lora-affinity-scorer
`})
	var request kvsched.Request
	for _, name := range []string{"prefill-0", "decode-0", "decode-1"} {
		e := must[kvsched.Endpoint](t)(s.AddEndpoint(name))
		if err := s.SetLabel(e, "role", strings.Split(name, "-")[0]); err != nil {
			t.Fatal(err)
		}
		request.Candidates = append(request.Candidates, kvsched.Candidate{Endpoint: e, LoRASlots: 4})
	}
	adapter := uint32(5)
	request.LoRA, request.Session = &adapter, "conversation"
	request.Candidates[0].LoRAActive = []uint32{5}
	request.Candidates[1].LoRAActive = []uint32{1, 2}
	request.Candidates[2].LoRAActive, request.Candidates[2].LoRAWaiting = []uint32{3, 5}, []uint32{9}
	var ranked []kvsched.Ranked
	d := must[kvsched.Decision](t)(s.RouteRanked(&request, &ranked))
	if d.Endpoint != request.Candidates[2].Endpoint || d.Candidates != 2 {
		t.Fatal(d)
	}
	if len(ranked) != 3 || !ranked[0].Chosen || ranked[2].Endpoint != 0 || !ranked[2].Dropped {
		t.Fatal(ranked)
	}
	_, why, err := s.RouteExplained(&request)
	if err != nil || !strings.HasPrefix(why, "decode-1 chosen by ") {
		t.Fatal(why, err)
	}
	if name := must[string](t)(s.EndpointName(d.Endpoint)); name != "decode-1" {
		t.Fatal(name)
	}
}

// Everything at once from many goroutines, a Close among them: each call works or says that the
// scheduler is closed.
func TestGoroutinesShareAScheduler(t *testing.T) {
	s := newScheduler(t, kvsched.Options{HistoryBlocks: 1000})
	a := must[kvsched.Endpoint](t)(s.AddEndpoint("a"))
	var all sync.WaitGroup
	closing := make(chan struct{})
	for i := range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			for round := 0; ; round++ {
				var err error
				switch (i + round) % 4 {
				case 0:
					var e kvsched.Endpoint
					if e, err = s.AddEndpoint(fmt.Sprint(i)); err == nil {
						err = s.RemoveEndpoint(e)
					}
				case 1:
					_, err = s.Stats()
				default:
					p := kvsched.Prompt{Tokens: count(64), CacheSalt: fmt.Sprint("salt", round)}
					_, err = s.Route(&kvsched.Request{Prompt: p, Record: true, Session: fmt.Sprint(i),
						Candidates: []kvsched.Candidate{{Endpoint: a}}})
				}
				if errors.Is(err, kvsched.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				if round == 20 && i == 0 {
					close(closing)
				}
			}
		}()
	}
	<-closing
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	all.Wait()
}

// A scheduler that nobody closed is freed by the garbage collector, not before it is unused.
func TestTheGarbageCollectorClosesWhatIsForgotten(t *testing.T) {
	for range 20 {
		s := must[*kvsched.Scheduler](t)(kvsched.NewScheduler(newHasher(t), kvsched.Options{}))
		a := must[kvsched.Endpoint](t)(s.AddEndpoint("a"))
		r := &kvsched.Request{Prompt: kvsched.Prompt{Tokens: count(200)}, Candidates: []kvsched.Candidate{{Endpoint: a}}}
		must[kvsched.Decision](t)(s.Route(r))
		runtime.GC()
	}
}

func TestAWarmRouteAllocatesNothing(t *testing.T) {
	s := newScheduler(t, kvsched.Options{})
	r := &kvsched.Request{Prompt: kvsched.Prompt{Tokens: count(1000), CacheSalt: "tenant"}, Session: "conversation"}
	for i := range 8 {
		e := must[kvsched.Endpoint](t)(s.AddEndpoint(fmt.Sprint(i)))
		r.Candidates = append(r.Candidates, kvsched.Candidate{Endpoint: e, WaitingRequests: uint32(i)})
	}
	route := func() { must[kvsched.Decision](t)(s.Route(r)) }
	route()
	if n := testing.AllocsPerRun(100, route); n != 0 && !collecting {
		t.Errorf("%v allocations", n)
	}
}
