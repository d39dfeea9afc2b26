package engine_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"kvsched.local/kvsched"
	"kvsched.local/kvsched/engine"
	"kvsched.local/kvsched/engine/enginetest"
)

// rig is an engine, and a scheduler that follows it.
type rig struct {
	*testing.T
	engine    *enginetest.Engine
	scheduler *kvsched.Scheduler
	endpoint  kvsched.Endpoint
	mu        sync.Mutex
	heard     []kvsched.Ingested
}

func newRig(t *testing.T, recording string) *rig {
	recorded, err := enginetest.Read(recording)
	if err != nil {
		t.Fatal(err)
	}
	served, err := enginetest.Start(recorded)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(served.Close)
	hasher, err := kvsched.NewVLLMHasher(recorded.Engine())
	if err != nil {
		t.Fatal(err)
	}
	scheduler, err := kvsched.NewScheduler(hasher, kvsched.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { scheduler.Close() })
	endpoint, err := scheduler.AddEndpoint("engine")
	if err != nil {
		t.Fatal(err)
	}
	return &rig{T: t, engine: served, scheduler: scheduler, endpoint: endpoint}
}

func (r *rig) follow() {
	ctx, cancel := context.WithCancel(r.Context())
	done := make(chan error, 1)
	feed := &engine.Feed{
		Scheduler: r.scheduler, Endpoint: r.endpoint,
		Events: r.engine.Events(), Replay: r.engine.Replays(),
		Now: func() int64 { return time.Now().UnixNano() },
		Heard: func(heard kvsched.Ingested) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.heard = append(r.heard, heard)
		},
	}
	go func() { done <- feed.Run(ctx) }()
	r.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			r.Error(err)
		}
	})
}

func (r *rig) count(is func(kvsched.Ingested) bool) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, heard := range r.heard {
		if is(heard) {
			n++
		}
	}
	return n
}

// eventually waits for something that is said to become true.
func (r *rig) eventually(what string, is func() bool) {
	r.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if is() {
			return
		}
	}
	r.Fatalf("not in time: %s", what)
}

func (r *rig) cached(step *enginetest.Step) int {
	prompt := step.Prompt()
	cached, err := r.scheduler.CachedTokens(r.endpoint, &prompt)
	if err != nil {
		r.Fatal(err)
	}
	return cached
}

// settled waits until all that was announced so far is known.
func (r *rig) settled(batches uint64) {
	r.Helper()
	r.eventually(fmt.Sprint(batches, " messages applied"), func() bool {
		stats, err := r.scheduler.Stats()
		if err != nil {
			r.Fatal(err)
		}
		return stats.Batches >= batches
	})
}

// play serves the steps from the first to the last on the engine, and compares what the scheduler
// expects of each with what the engine had cached when it was recorded.
func (r *rig) play(steps []enginetest.Step, applied uint64) (checked int, total uint64) {
	r.Helper()
	for i := range steps {
		step := &steps[i]
		if step.Alone() && step.Embeds == nil {
			if got := r.cached(step); got != step.Cached {
				r.Errorf("%s: %d tokens expected to be cached, the engine had %d", step.Label, got, step.Cached)
			}
			checked++
		}
		if err := r.engine.Play(step.Label); err != nil {
			r.Fatal(err)
		}
		for _, message := range r.engine.Recording.Messages {
			if message.During == step.Label {
				applied++
			}
		}
		r.settled(applied)
		if !step.Alone() {
			return checked, applied // what follows depends on the order of concurrent requests
		}
	}
	return checked, applied
}

func connected(r *rig) func() bool { return func() bool { return r.engine.Asked() > 0 } }

func TestARecordedEngineIsFollowedOverItsSockets(t *testing.T) {
	r := newRig(t, "A")
	r.follow()
	r.eventually("the feed asks what happened before", connected(r))
	checked, _ := r.play(r.engine.Recording.Steps, 0)
	if checked < 10 {
		t.Fatalf("only %d predictions", checked)
	}
	report, err := r.scheduler.Trust(r.endpoint)
	if err != nil || report.Trust != kvsched.Exact {
		t.Fatal(report, err)
	}
}

func TestWhatHappenedBeforeIsLearnedFromTheReplay(t *testing.T) {
	for _, old := range []bool{false, true} {
		r := newRig(t, "A")
		r.engine.OldReplays = old
		for _, label := range []string{"r0_base_exact", "r1_shared_prefix"} {
			if err := r.engine.Play(label); err != nil {
				t.Fatal(err)
			}
		}
		r.follow()
		r.settled(2)
		if step := r.engine.Recording.Step("r2_same_again"); r.cached(step) != step.Cached || step.Cached == 0 {
			t.Fatalf("%d, not %d", r.cached(step), step.Cached)
		}
	}
}

func TestALostMessageIsAskedFor(t *testing.T) {
	r := newRig(t, "A")
	r.engine.Lose("r1_shared_prefix")
	r.follow()
	r.eventually("connected", connected(r))
	checked, _ := r.play(r.engine.Recording.Steps[:1], 0)
	for _, label := range []string{"r1_shared_prefix", "r4_generates_over_block_boundary"} {
		if err := r.engine.Play(label); err != nil {
			t.Fatal(err)
		}
	}
	r.settled(4) // one of the first, the lost one, and two
	if r.count(func(h kvsched.Ingested) bool { return h.NeedsReplay }) == 0 || checked == 0 {
		t.Fatal("nothing was missed")
	}
	if step := r.engine.Recording.Step("r2_same_again"); r.cached(step) != step.Cached {
		t.Fatalf("%d, not %d", r.cached(step), step.Cached)
	}
	report, err := r.scheduler.Trust(r.endpoint)
	if err != nil || report.Trust != kvsched.Exact {
		t.Fatal(report, err)
	}
}

func TestARestartedEngineIsEmptyAndFollowedAgain(t *testing.T) {
	r := newRig(t, "A")
	r.follow()
	r.eventually("connected", connected(r))
	for _, label := range []string{"r0_base_exact", "r1_shared_prefix"} {
		if err := r.engine.Play(label); err != nil {
			t.Fatal(err)
		}
	}
	r.settled(2)
	again := r.engine.Recording.Step("r2_same_again")
	if r.cached(again) == 0 {
		t.Fatal("nothing is known")
	}
	if err := r.engine.Restart(); err != nil {
		t.Fatal(err)
	}
	asked := r.engine.Asked()
	r.eventually("the feed connects again", func() bool { return r.engine.Asked() > asked })
	// The new engine serves something else first.
	if err := r.engine.Play("r5_salt"); err != nil {
		t.Fatal(err)
	}
	r.eventually("the old engine's blocks are forgotten", func() bool { return r.cached(again) == 0 })
	if r.count(func(h kvsched.Ingested) bool { return h.Restarted }) != 1 {
		t.Fatal("no restart was noticed")
	}
	// It is followed like the one before.
	if err := r.engine.Play("r0_base_exact"); err != nil {
		t.Fatal(err)
	}
	r.eventually("its blocks are known", func() bool {
		return r.cached(r.engine.Recording.Step("r1_shared_prefix")) == 64
	})
}

func TestAFeedEndsWithItsEndpoint(t *testing.T) {
	r := newRig(t, "A")
	feed := &engine.Feed{Scheduler: r.scheduler, Endpoint: r.endpoint, Events: r.engine.Events(),
		Now: func() int64 { return time.Now().UnixNano() }}
	if err := r.scheduler.RemoveEndpoint(r.endpoint); err != nil {
		t.Fatal(err)
	}
	if err := feed.Run(t.Context()); !errors.Is(err, kvsched.ErrUnknownEndpoint) {
		t.Fatal(err)
	}
}
