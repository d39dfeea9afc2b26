package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"

	"kvsched.local/kvsched"
	"kvsched.local/kvsched/engine"
)

const (
	// The longest body of a request.
	longestBody = 32 << 20
	// How long an engine may take to tokenize.
	tokenizePatience = 2 * time.Second
	// For how long a request counts whose end nobody saw.
	lease = 10 * time.Minute
)

// router is the HTTP handler.
type router struct {
	settings
	scheduler *kvsched.Scheduler
	upstreams []*upstream
	proxy     *httputil.ReverseProxy
	base      http.RoundTripper
	start     time.Time
	turn      atomic.Uint32
	running   sync.WaitGroup
}

// newRouter follows and polls the engines until the context ends.
func newRouter(ctx context.Context, hasher *kvsched.Hasher, s settings) (*router, error) {
	if len(s.Engines) == 0 {
		return nil, errors.New("no engines to route to")
	}
	scheduler, err := kvsched.NewScheduler(hasher, kvsched.Options{Preset: s.Preset, InFlightLease: lease})
	if err != nil {
		return nil, err
	}
	r := &router{settings: s, scheduler: scheduler, start: time.Now(), base: http.DefaultTransport}
	r.proxy = &httputil.ReverseProxy{
		Rewrite:       func(p *httputil.ProxyRequest) { p.SetXForwarded() },
		Transport:     (*sender)(r),
		FlushInterval: -1, // every token at once
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			status := http.StatusBadGateway
			if errors.Is(err, kvsched.ErrNoEndpoint) {
				status = http.StatusServiceUnavailable
			}
			http.Error(w, err.Error(), status)
		},
	}
	for _, at := range s.Engines {
		endpoint, err := scheduler.AddEndpoint(at.HTTP)
		if err != nil {
			return nil, err
		}
		u, err := newUpstream(at.HTTP, endpoint, &http.Client{Timeout: pollPatience})
		if err != nil {
			return nil, err
		}
		r.upstreams = append(r.upstreams, u)
		feed := &engine.Feed{
			Scheduler: scheduler, Endpoint: endpoint, Events: at.Events, Replay: at.Replay,
			Topic: s.Topic, Now: r.now, Trouble: func(err error) { log.Print(err) },
		}
		r.running.Go(func() {
			if err := feed.Run(ctx); ctx.Err() == nil {
				log.Printf("%s: no longer followed: %v", at.HTTP, err)
			}
		})
		r.running.Go(func() { u.poll(ctx, r.now) })
	}
	return r, nil
}

// wait waits until nothing runs any more, after the context has ended.
func (r *router) wait() {
	r.running.Wait()
	r.scheduler.Close()
}

// now is the clock of all calls.
func (r *router) now() int64 { return int64(time.Since(r.start)) }

// ServeHTTP serves a request.
func (r *router) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	if request.URL.Path == "/health" {
		for _, u := range r.upstreams {
			if _, up := u.candidate(); up {
				return
			}
		}
		http.Error(w, "no engine is up", http.StatusServiceUnavailable)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, longestBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	plan := &plan{body: body}
	if request.Method == http.MethodPost {
		if plan.prompt, plan.output, err = r.prompt(request.Context(), body); err != nil {
			log.Printf("only loads count for a request: %v", err)
		}
	}
	r.proxy.ServeHTTP(w, request.WithContext(context.WithValue(request.Context(), planKey{}, plan)))
}

// asked is the part of a body that decides what is cached of it.
type asked struct {
	Model     string            `json:"model"`
	Prompt    json.RawMessage   `json:"prompt"`
	Messages  []json.RawMessage `json:"messages"`
	CacheSalt string            `json:"cache_salt"`
	MaxTokens uint32            `json:"max_tokens"`
}

// prompt is what an engine's cache key of a body is made of, and how many tokens may be the answer. Of
// several prompts, the first.
func (r *router) prompt(ctx context.Context, body []byte) (kvsched.Prompt, uint32, error) {
	var a asked
	var prompt kvsched.Prompt
	if err := json.Unmarshal(body, &a); err != nil {
		return prompt, 0, err
	}
	prompt.CacheSalt = a.CacheSalt
	if adapter, is := r.LoRA[a.Model]; is {
		prompt.LoRA = &adapter
	}
	var several [][]uint32
	var texts []string
	switch {
	case json.Unmarshal(a.Prompt, &prompt.Tokens) == nil:
		return prompt, a.MaxTokens, nil
	case json.Unmarshal(a.Prompt, &several) == nil && len(several) > 0:
		prompt.Tokens = several[0]
		return prompt, a.MaxTokens, nil
	case json.Unmarshal(a.Prompt, &texts) == nil && len(texts) > 0:
		body, _ = json.Marshal(map[string]string{"model": a.Model, "prompt": texts[0]})
	case len(a.Prompt) == 0 && len(a.Messages) == 0:
		return prompt, a.MaxTokens, nil // embeddings and the like: only loads count
	}
	var err error
	prompt.Tokens, err = r.tokenize(ctx, body)
	return prompt, a.MaxTokens, err
}

// tokenize asks the engines, in turns; where one is down, the next.
func (r *router) tokenize(ctx context.Context, body []byte) ([]uint32, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenizePatience)
	defer cancel()
	err := fmt.Errorf("nobody to tokenize: %w", kvsched.ErrNoEndpoint)
	first := int(r.turn.Add(1))
	for i := range r.upstreams {
		u := r.upstreams[(first+i)%len(r.upstreams)]
		if _, up := u.candidate(); !up {
			continue
		}
		var tokens []uint32
		if tokens, err = u.client.Tokenize(ctx, body); err == nil {
			return tokens, nil
		}
	}
	return nil, err
}
