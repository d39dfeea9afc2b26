package epp

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"kvsched.local/kvsched"
	"kvsched.local/kvsched/engine"
)

// fleet is what both frameworks' plugins share: a scheduler, the endpoints it knows under the
// framework's names, and the requests that are under way.
type fleet struct {
	parameters
	scheduler *kvsched.Scheduler
	ctx       context.Context
	start     time.Time
	trouble   func(error)

	mu      sync.RWMutex
	members map[string]*member
	flights flights
}

// member is an endpoint, and its feed of events.
type member struct {
	endpoint kvsched.Endpoint
	address  string
	stop     context.CancelFunc
	stopped  chan struct{}
}

// candidate is an endpoint that may serve a request, and what it is doing.
type candidate struct {
	name string
	load kvsched.Candidate
}

// standing is how a candidate stands for a request.
type standing struct {
	matched, blocks int
	score           float64
}

func newFleet(ctx context.Context, p parameters, trouble func(error)) (*fleet, error) {
	hasher, err := p.hasher()
	if err != nil {
		return nil, err
	}
	defer hasher.Close()
	scheduler, err := kvsched.NewScheduler(hasher, kvsched.Options{Preset: p.Preset, InFlightLease: 10 * time.Minute})
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { scheduler.Close() })
	return &fleet{
		parameters: p, scheduler: scheduler, ctx: ctx, start: time.Now(), trouble: trouble,
		members: map[string]*member{},
	}, nil
}

// now is the clock of all calls: it does not jump.
func (f *fleet) now() int64 { return int64(time.Since(f.start)) }

// join makes an endpoint known and follows its events. What joins again at another address is another
// engine: nothing is cached there.
func (f *fleet) join(name, address string, rank int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old := f.members[name]; old != nil {
		if old.address == address {
			return nil
		}
		if err := f.forget(name, old); err != nil {
			return err
		}
	}
	endpoint, err := f.scheduler.AddEndpoint(name)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(f.ctx)
	m := &member{endpoint: endpoint, address: address, stop: stop, stopped: make(chan struct{})}
	f.members[name] = m
	feed := &engine.Feed{
		Scheduler: f.scheduler, Endpoint: endpoint, Topic: f.EventsTopic,
		Events: socket(address, f.EventsPort+rank), Now: f.now, Trouble: f.trouble,
	}
	if f.ReplayPort != 0 {
		feed.Replay = socket(address, f.ReplayPort+rank)
	}
	go func() {
		defer close(m.stopped)
		if err := feed.Run(ctx); ctx.Err() == nil {
			f.trouble(fmt.Errorf("events of %s: %w", name, err))
		}
	}()
	return nil
}

func socket(address string, port int) string {
	return "tcp://" + net.JoinHostPort(address, strconv.Itoa(port))
}

// leave forgets an endpoint and all it holds.
func (f *fleet) leave(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := f.members[name]; m != nil {
		return f.forget(name, m)
	}
	return nil
}

func (f *fleet) forget(name string, m *member) error {
	m.stop()
	<-m.stopped // its number may be another's from now on
	delete(f.members, name)
	return f.scheduler.RemoveEndpoint(m.endpoint)
}

// endpoint is the scheduler's number of an endpoint.
func (f *fleet) endpoint(name string) (kvsched.Endpoint, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	m := f.members[name]
	if m == nil {
		return 0, false
	}
	return m.endpoint, true
}

// stand is how every candidate stands for a prompt. Those that never joined hold nothing, and are an
// error besides.
func (f *fleet) stand(prompt kvsched.Prompt, candidates []candidate) (map[string]standing, error) {
	request := kvsched.Request{Prompt: prompt, Now: f.now()}
	names := make(map[kvsched.Endpoint]string, len(candidates))
	standings := make(map[string]standing, len(candidates))
	var strangers []string
	for _, c := range candidates {
		endpoint, known := f.endpoint(c.name)
		if !known {
			strangers = append(strangers, c.name)
			standings[c.name] = standing{}
			continue
		}
		c.load.Endpoint = endpoint
		names[endpoint] = c.name
		request.Candidates = append(request.Candidates, c.load)
	}
	var ranked []kvsched.Ranked
	if len(request.Candidates) > 0 {
		decision, err := f.scheduler.RouteRanked(&request, &ranked)
		if err != nil {
			return nil, err
		}
		for _, row := range ranked {
			s := standing{matched: int(row.MatchedBlocks), blocks: int(decision.PromptBlocks), score: row.Score}
			if f.Preset == "" {
				s.score = float64(s.matched) / float64(max(s.blocks, 1))
			}
			standings[names[row.Endpoint]] = s
		}
	}
	if len(strangers) > 0 {
		return standings, fmt.Errorf("kvsched does not know %v: is %s an extractor of an endpoint-notification-source?",
			strangers, Type)
	}
	return standings, nil
}

// sent records that a request goes to an endpoint.
func (f *fleet) sent(request string, prompt kvsched.Prompt, name string) error {
	endpoint, known := f.endpoint(name)
	if !known {
		return nil
	}
	ticket, err := f.scheduler.Record(endpoint, &prompt, f.now())
	if err == nil {
		f.flights.depart(request, ticket)
	}
	return err
}

// streaming says that a request has had its first token.
func (f *fleet) streaming(request string) error {
	ticket, first := f.flights.first(request)
	if !first {
		return nil
	}
	return f.scheduler.FirstToken(ticket)
}

// ended says that a request is over.
func (f *fleet) ended(request string, outputTokens int) error {
	ticket, flying := f.flights.arrive(request)
	if !flying {
		return nil
	}
	return f.scheduler.Finish(ticket, uint32(max(outputTokens, 0)), f.now())
}
