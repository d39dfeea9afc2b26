package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kvsched.local/kvsched"
	"kvsched.local/kvsched/engine/enginetest"
)

// rig is a router in front of engines that play recordings.
type rig struct {
	*testing.T
	engines []*enginetest.Engine
	router  *router
	server  *httptest.Server
}

func newRig(t *testing.T, engines int) *rig {
	recorded, err := enginetest.Read("A")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t}
	named := recorded.Engine()
	s := settings{BlockSize: named.BlockSize, LoRA: map[string]kvsched.LoRA{}}
	for i := range recorded.Steps {
		if lora := recorded.Steps[i].Prompt().LoRA; lora != nil {
			s.LoRA[lora.Name] = *lora
		}
	}
	for range engines {
		e, err := enginetest.Start(recorded)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(e.Close)
		r.engines = append(r.engines, e)
		s.Engines = append(s.Engines, address{e.HTTP(), e.Events(), e.Replays()})
	}
	hasher, err := hasherOf(named.Version, named.Algorithm, *named.Seed, named.BlockSize)
	if err != nil {
		t.Fatal(err)
	}
	defer hasher.Close()
	ctx, cancel := context.WithCancel(context.Background())
	if r.router, err = newRouter(ctx, hasher, s); err != nil {
		t.Fatal(err)
	}
	r.server = httptest.NewServer(r.router)
	t.Cleanup(func() {
		r.server.Close()
		cancel()
		r.router.wait()
	})
	r.eventually("all engines are up and followed", func() bool {
		for i, u := range r.router.upstreams {
			if _, up := u.candidate(); !up || r.engines[i].Asked() == 0 {
				return false
			}
		}
		return true
	})
	return r
}

func (r *rig) eventually(what string, is func() bool) {
	r.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if is() {
			return
		}
	}
	r.Fatalf("not in time: %s", what)
}

// busy makes an engine say that requests wait there, and waits until the router knows.
func (r *rig) busy(engine, requests int) {
	r.engines[engine].Wait(requests)
	r.eventually("the load is known", func() bool {
		load, _ := r.router.upstreams[engine].candidate()
		return int(load.WaitingRequests) == requests
	})
}

// post sends a body and returns the answer, the engine that gave it, and the tokens expected to be cached.
func (r *rig) post(path string, body map[string]any) (status int, answer string, engine, cached int) {
	r.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		r.Fatal(err)
	}
	response, err := http.Post(r.server.URL+path, "application/json", bytes.NewReader(text))
	if err != nil {
		r.Fatal(err)
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		r.Fatal(err)
	}
	engine = slices.IndexFunc(r.engines, func(e *enginetest.Engine) bool {
		return e.HTTP() == response.Header.Get("X-Kvsched-Endpoint")
	})
	cached, _ = strconv.Atoi(response.Header.Get("X-Kvsched-Cached-Tokens"))
	return response.StatusCode, string(read), engine, cached
}

// ask asks for a recorded step, as text, chat or tokens.
func (r *rig) ask(step *enginetest.Step, how string) (engine, cached int) {
	r.Helper()
	prompt := step.Prompt()
	path, body := "/v1/completions", map[string]any{"model": "tiny-llama", "max_tokens": 1}
	switch how {
	case "text":
		body["prompt"] = step.Label
	case "texts":
		body["prompt"] = []string{step.Label}
	case "tokens":
		body["prompt"] = step.Tokens
	case "chat":
		path = "/v1/chat/completions"
		body["messages"] = []map[string]string{{"role": "user", "content": step.Label}}
	}
	if prompt.CacheSalt != "" {
		body["cache_salt"] = prompt.CacheSalt
	}
	if prompt.LoRA != nil {
		body["model"] = prompt.LoRA.Name
	}
	status, answer, engine, cached := r.post(path, body)
	if status != http.StatusOK || !strings.Contains(answer, step.Label) {
		r.Fatalf("%s: %d %s", step.Label, status, answer)
	}
	return engine, cached
}

// settle waits until the router knows of as many messages.
func (r *rig) settle(batches int) {
	r.Helper()
	r.eventually(fmt.Sprint(batches, " messages taken in"), func() bool {
		stats, err := r.router.scheduler.Stats()
		return err == nil && stats.Batches >= uint64(batches)
	})
}

// messagesOf is how many messages an engine sends while it serves a step.
func messagesOf(e *enginetest.Engine, label string) (n int) {
	for _, m := range e.Recording.Messages {
		if m.During == label {
			n++
		}
	}
	return n
}

func TestRequestsGoWhereTheirPromptIsCached(t *testing.T) {
	r := newRig(t, 2)
	// More than its empty memory is worth: of 32 blocks, those of the other soon evict each other, and
	// would those of the hundred that may follow each new prompt.
	r.busy(1, 1000)
	recording := r.engines[0].Recording
	batches, checked, hits := 0, 0, 0
	for i := range recording.Steps {
		step := &recording.Steps[i]
		if !step.Alone() || step.Embeds != nil {
			break // what follows depends on the order of concurrent requests
		}
		how := []string{"text", "chat", "tokens", "texts"}[i%4]
		if step.CacheSalt != nil || step.LoRAName != nil || step.Label == "r2_same_again" {
			how = "text" // of the same tokens, the test engine knows others
		}
		engine, cached := r.ask(step, how)
		if engine != 0 || cached != step.Cached {
			t.Errorf("%s (%s): engine %d, %d tokens expected to be cached, the engine had %d",
				step.Label, how, engine, cached, step.Cached)
		}
		batches += messagesOf(r.engines[0], step.Label)
		r.settle(batches)
		checked++
		hits += step.Cached
	}
	if checked < 8 || hits == 0 {
		t.Fatalf("only %d requests, %d tokens cached", checked, hits)
	}
	// Nothing is under way any more.
	for _, u := range r.router.upstreams {
		if work, err := r.router.scheduler.Outstanding(u.endpoint); err != nil || work.Requests != 0 {
			t.Fatal(work, err)
		}
	}
	// Where too many wait, a prompt is computed again.
	r.busy(0, 3000)
	if engine, _ := r.ask(recording.Step("r3_short_lt_block"), "text"); engine != 1 {
		t.Fatal("sent to the engine where thrice as many wait")
	}
}

func TestALostMessageIsFetchedAndARestartIsNoticed(t *testing.T) {
	r := newRig(t, 1)
	recording := r.engines[0].Recording
	r.engines[0].Lose("r0_base_exact")
	r.ask(recording.Step("r0_base_exact"), "text")
	r.ask(recording.Step("r1_shared_prefix"), "text")
	r.settle(2)
	stats, err := r.router.scheduler.Stats()
	if err != nil || stats.Replays == 0 {
		t.Fatal("nothing was missed:", stats, err)
	}
	again := recording.Step("r2_same_again")
	prompt := again.Prompt()
	if cached, err := r.router.scheduler.CachedTokens(0, &prompt); err != nil || cached != again.Cached {
		t.Fatal(cached, err)
	}
	asked := r.engines[0].Asked()
	if err := r.engines[0].Restart(); err != nil {
		t.Fatal(err)
	}
	r.eventually("connected again", func() bool { return r.engines[0].Asked() > asked })
	r.ask(recording.Step("r5_salt"), "text")
	r.eventually("the old engine's blocks are forgotten", func() bool {
		cached, err := r.router.scheduler.CachedTokens(0, &prompt)
		return err == nil && cached == 0
	})
	if _, cached := r.ask(again, "text"); cached != 0 {
		t.Fatal("blocks of an engine that is gone are expected:", cached)
	}
}

func TestWhereAnEngineCannotBeReachedAnotherServes(t *testing.T) {
	r := newRig(t, 2)
	step := r.engines[0].Recording.Step("r3_short_lt_block")
	r.busy(1, 50)
	r.engines[0].Close()
	// At once: the router has not looked since.
	if engine, _ := r.ask(step, "tokens"); engine != 1 {
		t.Fatal(engine)
	}
	r.engines[1].Close()
	status, answer, _, _ := r.post("/v1/completions", map[string]any{"prompt": step.Tokens})
	if status != http.StatusServiceUnavailable {
		t.Fatal(status, answer)
	}
	response, err := http.Get(r.server.URL + "/health")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable {
		t.Fatal(response.Status)
	}
}

func TestAnswersStreamAndErrorsPass(t *testing.T) {
	r := newRig(t, 1)
	status, answer, _, _ := r.post("/v1/completions", map[string]any{"prompt": "r0_base_exact", "stream": true})
	if status != http.StatusOK || strings.Count(answer, "data: ") != 2 || !strings.HasSuffix(answer, "data: [DONE]\n\n") {
		t.Fatal(status, answer)
	}
	// What the engine refuses is its answer; what it cannot tokenize goes by load.
	if status, answer, _, _ := r.post("/v1/completions", map[string]any{"prompt": "unheard of"}); status != http.StatusBadRequest {
		t.Fatal(status, answer)
	}
	for _, body := range []string{"", "{", `{"prompt": [4294967295, 1, 2, 3]}`, `{"prompt": [[1, 2], [3]]}`} {
		response, err := http.Post(r.server.URL+"/v1/completions", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Fatalf("%q: %s", body, response.Status)
		}
	}
	response, err := http.Get(r.server.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(response.Body)
	response.Body.Close()
	if !bytes.Contains(text, []byte("vllm:num_requests_running")) {
		t.Fatalf("%s", text)
	}
}

func TestManyAtOnce(t *testing.T) {
	r := newRig(t, 2)
	step := r.engines[0].Recording.Step("r0_base_exact")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 5 {
				r.ask(step, "tokens")
			}
		})
	}
	all.Wait()
	for _, u := range r.router.upstreams {
		if work, err := r.router.scheduler.Outstanding(u.endpoint); err != nil || work.Requests != 0 {
			t.Fatal(work, err)
		}
	}
}
