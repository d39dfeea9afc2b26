package kvsched_test

import (
	"fmt"
	"testing"

	"kvsched.local/kvsched"
)

// What a call of C costs beside what is done in it: one endpoint, no prompt.
func BenchmarkRouteOfNothing(b *testing.B) { benchmarkRoute(b, 1, 0) }

// The request path: hash, match, score and pick.
func BenchmarkRoute7200TokensFor8Endpoints(b *testing.B) { benchmarkRoute(b, 8, 7200) }

func benchmarkRoute(b *testing.B, endpoints, tokens int) {
	s := newScheduler(b, kvsched.Options{})
	r := &kvsched.Request{Prompt: kvsched.Prompt{Tokens: count(tokens)}}
	hashes := must[[]uint64](b)(newHasher(b).Hash(r.Prompt, nil))
	for i := range endpoints {
		e := must[kvsched.Endpoint](b)(s.AddEndpoint(fmt.Sprint(i)))
		r.Candidates = append(r.Candidates, kvsched.Candidate{Endpoint: e, WaitingRequests: uint32(i)})
		// Each has an eighth more of the prompt than the one before.
		if n := len(hashes) * (i + 1) / endpoints; n > 0 {
			must[kvsched.Ingested](b)(s.Ingest(e, 0, storedMessage(hashes[:n], r.Prompt.Tokens[:16*n], 16), 0))
		}
	}
	d := must[kvsched.Decision](b)(s.Route(r))
	if want := max(tokens-1, 0) / 16; int(d.PromptBlocks) != want || int(d.MatchedBlocks) > want {
		b.Fatal(d)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Route(r); err != nil {
			b.Fatal(err)
		}
	}
}
