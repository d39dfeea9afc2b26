package main

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"

	"kvsched.local/kvsched"
)

// plan is a request on its way.
type plan struct {
	body   []byte
	prompt kvsched.Prompt
	output uint32
}

type planKey struct{}

// sender is the router as the proxy's transport: it chooses an engine, and another where that cannot be
// reached.
type sender router

// RoundTrip sends a request.
func (s *sender) RoundTrip(request *http.Request) (*http.Response, error) {
	r := (*router)(s)
	plan, _ := request.Context().Value(planKey{}).(*plan)
	tried := map[*upstream]bool{}
	var failed error
	for {
		u, decision, err := r.choose(plan, tried)
		if err != nil {
			return nil, errors.Join(err, failed)
		}
		tried[u] = true
		attempt := request.Clone(request.Context())
		attempt.URL.Scheme, attempt.URL.Host, attempt.Host = u.base.Scheme, u.base.Host, u.base.Host
		attempt.Body = io.NopCloser(bytes.NewReader(plan.body))
		attempt.ContentLength = int64(len(plan.body))
		response, err := r.base.RoundTrip(attempt)
		if err != nil {
			r.finish(decision.Ticket, 0)
			if request.Context().Err() != nil || !unreached(err) {
				return nil, err
			}
			u.down()
			failed = err
			continue
		}
		cached := int(decision.MatchedBlocks) * r.BlockSize
		response.Header.Set("X-Kvsched-Endpoint", u.base.String())
		response.Header.Set("X-Kvsched-Cached-Tokens", strconv.Itoa(cached))
		response.Body = &answer{ReadCloser: response.Body, router: r, ticket: decision.Ticket}
		return response, nil
	}
}

// choose is the best engine that is up and was not tried, and the ledger's record that it gets the request.
func (r *router) choose(plan *plan, tried map[*upstream]bool) (*upstream, kvsched.Decision, error) {
	asked := kvsched.Request{
		Prompt: plan.prompt, ExpectedOutputTokens: plan.output, Now: r.now(), Record: true,
		Candidates: make([]kvsched.Candidate, 0, len(r.upstreams)),
	}
	for _, u := range r.upstreams {
		if load, up := u.candidate(); up && !tried[u] {
			asked.Candidates = append(asked.Candidates, load)
		}
	}
	decision, err := r.scheduler.Route(&asked)
	if errors.Is(err, kvsched.ErrPrompt) {
		log.Printf("only loads count for a request: %v", err)
		asked.Prompt = kvsched.Prompt{}
		decision, err = r.scheduler.Route(&asked)
	}
	if err != nil {
		return nil, kvsched.Decision{}, err
	}
	for _, u := range r.upstreams {
		if u.endpoint == decision.Endpoint {
			return u, decision, nil
		}
	}
	return nil, kvsched.Decision{}, kvsched.ErrUnknownEndpoint // there are no others
}

func (r *router) finish(ticket kvsched.Ticket, tokens uint32) {
	if err := r.scheduler.Finish(ticket, tokens, r.now()); err != nil && !errors.Is(err, kvsched.ErrUnknownTicket) {
		log.Print(err)
	}
}

// unreached reports whether nothing of a request can have arrived.
func unreached(err error) bool {
	var of *net.OpError
	return errors.As(err, &of) && of.Op == "dial"
}

// answer tells the ledger when the first token comes and when the answer ends.
type answer struct {
	io.ReadCloser
	router *router
	ticket kvsched.Ticket
	begun  bool
	tokens uint32
	over   sync.Once
}

// Read counts events of a stream as tokens, which is what engines send unless told otherwise.
func (a *answer) Read(to []byte) (int, error) {
	n, err := a.ReadCloser.Read(to)
	if n > 0 && !a.begun {
		a.begun = true
		if err := a.router.scheduler.FirstToken(a.ticket); err != nil && !errors.Is(err, kvsched.ErrUnknownTicket) {
			log.Print(err)
		}
	}
	a.tokens += uint32(bytes.Count(to[:n], []byte("data: ")))
	if err != nil {
		a.end()
	}
	return n, err
}

// Close ends it, whether or not all was read.
func (a *answer) Close() error {
	a.end()
	return a.ReadCloser.Close()
}

func (a *answer) end() { a.over.Do(func() { a.router.finish(a.ticket, a.tokens) }) }
