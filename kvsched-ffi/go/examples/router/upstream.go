package main

import (
	"context"
	"log"
	"net/http"
	"net/url"
	"sync"
	"time"

	"kvsched.local/kvsched"
	"kvsched.local/kvsched/engine"
)

const (
	pollInterval = 500 * time.Millisecond
	pollPatience = 2 * time.Second
)

// upstream is an engine: where it is, and what it was last seen to be doing.
type upstream struct {
	base     *url.URL
	endpoint kvsched.Endpoint
	client   engine.Client

	mu   sync.Mutex
	load kvsched.Candidate
	up   bool
}

func newUpstream(base string, endpoint kvsched.Endpoint, client *http.Client) (*upstream, error) {
	parsed, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	return &upstream{base: parsed, endpoint: endpoint, client: engine.Client{Base: base, HTTP: client}}, nil
}

// poll looks what it is doing, again and again.
func (u *upstream) poll(ctx context.Context, now func() int64) {
	for {
		u.look(ctx, now)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pollInterval):
		}
	}
}

func (u *upstream) look(ctx context.Context, now func() int64) {
	ctx, cancel := context.WithTimeout(ctx, pollPatience)
	defer cancel()
	asked := now()
	load, err := u.client.Load(ctx, 0)
	u.mu.Lock()
	defer u.mu.Unlock()
	if was := u.up; was != (err == nil) {
		log.Printf("%s: up is now %v: %v", u.base, !was, err)
	}
	u.up = err == nil
	if err == nil {
		load.Endpoint, load.ObservedAt = u.endpoint, asked
		u.load = load
	}
}

// candidate is what it was last seen to be doing, if it is up.
func (u *upstream) candidate() (kvsched.Candidate, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.load, u.up
}

// down says that it could not be reached: until it is seen again, nothing is sent there.
func (u *upstream) down() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.up = false
}
