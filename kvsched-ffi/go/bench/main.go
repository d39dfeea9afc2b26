// Command bench measures kvsched's Go package beside llm-d's indexer, on the same prompts and fleet in
// one run, and prints a table: the least of several rounds that take turns. It fails if the two do not
// agree on what every endpoint holds of every prompt.
//
//	kvsched-ffi/go/build.sh && cd kvsched-ffi/go/bench && go run .
package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"testing"
	"time"

	"kvsched.local/kvsched"
)

const rounds = 20

// measured is one thing that is timed: how long each of n takes.
type measured struct {
	name string
	run  func(n int) (time.Duration, error)
	n    int
	best time.Duration
}

func main() {
	if err := compare(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func compare(ctx context.Context) error {
	f := newFleet()
	content, err := kvsched.NewContentHasher(model, []byte("sixteen or more random bytes"), blockSize)
	if err != nil {
		return err
	}
	engine, err := kvsched.NewVLLMHasher(kvsched.VLLM{Version: "0.33.0", BlockSize: blockSize})
	if err != nil {
		return err
	}
	byContent, err := newOurs(f, content, -1)
	if err != nil {
		return err
	}
	byEngine, err := newOurs(f, engine, -1)
	if err != nil {
		return err
	}
	remembering, err := newOurs(f, engine, 64<<20)
	if err != nil {
		return err
	}
	llmd, err := newPeer(ctx, f)
	if err != nil {
		return err
	}
	if err := agree(ctx, f, llmd, byContent, byEngine); err != nil {
		return err
	}
	scheduler, request, err := smallest()
	if err != nil {
		return err
	}
	perCall := func(n int, call func(i int) error) (time.Duration, error) {
		start := time.Now()
		for i := range n {
			if err := call(i); err != nil {
				return 0, err
			}
		}
		return time.Since(start) / time.Duration(n), nil
	}
	route := func(o *ours) func(int) (time.Duration, error) {
		return func(n int) (time.Duration, error) {
			return perCall(n, func(i int) error {
				_, err := o.scheduler.Route(&o.requests[i%prompts])
				return err
			})
		}
	}
	theirs := func(score func(context.Context, int) (map[string]float64, error)) func(int) (time.Duration, error) {
		return func(n int) (time.Duration, error) {
			return perCall(n, func(i int) error {
				_, err := score(ctx, i%prompts)
				return err
			})
		}
	}
	cases := []*measured{
		{name: "llm-d-kv-cache v0.9.0, `ScoreTokens`", n: prompts / 4, run: theirs(llmd.scores)},
		{name: "its keys, lookup and scores alone", n: prompts, run: theirs(llmd.parts)},
		{name: "kvsched, tokens → decision, content scheme", n: 32 * prompts, run: route(byContent)},
		{name: "kvsched, tokens → decision, sha256 as the engine", n: prompts, run: route(byEngine)},
		{name: "the same, of prompts that were seen before", n: 8 * prompts, run: route(remembering)},
		{name: "kvsched, smallest decision, from Go", n: 20_000, run: func(n int) (time.Duration, error) {
			return perCall(n, func(int) error {
				_, err := scheduler.Route(request)
				return err
			})
		}},
		{name: "kvsched, smallest decision, from C", n: 20_000, run: called},
	}
	for range rounds {
		for _, c := range cases {
			taken, err := c.run(c.n)
			if err != nil {
				return err
			}
			if c.best == 0 || taken < c.best {
				c.best = taken
			}
		}
	}
	fmt.Printf("%d prompts of %d tokens, %d endpoints, blocks of %d; least of %d rounds\n\n",
		prompts, promptTokens, endpoints, blockSize, rounds)
	fmt.Println("| what | time | times faster than llm-d | than its parts |")
	fmt.Println("|---|---|---|---|")
	for i, c := range cases {
		beside := "| "
		if 2 <= i && i <= 4 {
			times := func(other *measured) float64 { return float64(other.best) / float64(c.best) }
			beside = fmt.Sprintf("%.0f | %.0f", times(cases[0]), times(cases[1]))
		}
		fmt.Printf("| %s | %v | %s |\n", c.name, c.best, beside)
	}
	allocations := testing.AllocsPerRun(1000, func() { scheduler.Route(request) })
	fmt.Printf("\nGo adds %v to a call and allocates %v times.\n", cases[5].best-cases[6].best, allocations)
	return nil
}

// agree says where the sides differ on what an endpoint holds.
func agree(ctx context.Context, f *fleet, llmd *peer, all ...*ours) error {
	for p := range f.prompts {
		scores, err := llmd.scores(ctx, p)
		if err != nil {
			return err
		}
		if parts, err := llmd.parts(ctx, p); err != nil || !maps.Equal(parts, scores) {
			return fmt.Errorf("prompt %d: llm-d scores %v, its parts %v: %w", p, scores, parts, err)
		}
		for _, o := range all {
			blocks, err := o.blocks(p)
			if err != nil {
				return err
			}
			for e, name := range f.names {
				got := uint32(0)
				if e < len(blocks) {
					got = blocks[e]
				}
				if int(got) != held(p, e) || scores[name] != float64(got) {
					return fmt.Errorf("prompt %d, endpoint %d: %d blocks held, %d by kvsched, %v by llm-d",
						p, e, held(p, e), got, scores[name])
				}
			}
		}
	}
	return nil
}
