package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/go-zeromq/zmq4"

	"kvsched.local/kvsched"
)

// Feed follows the events of one engine, or of one data-parallel rank of it, into a scheduler. Where
// messages are missing it asks the engine's replay socket; where the connection breaks it dials again,
// and asks what happened meanwhile.
type Feed struct {
	// Scheduler and Endpoint are whose picture is kept. No other goroutine hands in messages of the
	// same endpoint.
	Scheduler *kvsched.Scheduler
	Endpoint  kvsched.Endpoint
	// Events is the address of the engine's PUB socket, as "tcp://10.0.0.1:5557".
	Events string
	// Replay is the address of its replay socket, as "tcp://10.0.0.1:5558"; empty if it has none:
	// what is lost then stays lost, and what it held before is not learned.
	Replay string
	// Topic is the prefix of the topics to listen to; empty for all.
	Topic string
	// Now is the clock that all calls of the scheduler share, in nanoseconds.
	Now func() int64
	// Heard, if not nil, is told what came of every message.
	Heard func(kvsched.Ingested)
	// Trouble, if not nil, is told of connections that fail. They are tried again.
	Trouble func(error)
}

const (
	firstPause = 50 * time.Millisecond
	lastPause  = 5 * time.Second
	// How long a replay may say nothing.
	replayPatience = 5 * time.Second
)

// message is a numbered message of a socket.
type message struct {
	sequence uint64
	payload  []byte
}

// Run follows the engine until the context ends, or the scheduler is closed or no longer knows the
// endpoint, which is its error.
func (f *Feed) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Unbuffered: what is not taken in yet waits at the engine, which drops what is too much; that is
	// then asked for again.
	live := make(chan message)
	connected := make(chan struct{}, 1)
	go f.subscribe(ctx, live, connected)
	second := time.NewTicker(time.Second)
	defer second.Stop()
	r := &replay{feed: f}
	defer r.stop()
	for {
		var heard kvsched.Ingested
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-connected:
			// It may have held blocks before, may have been silent since, and may be another than
			// before: it tells all that it remembers.
			r.start(ctx, 0)
			continue
		case m := <-live:
			heard, err = f.Scheduler.Ingest(f.Endpoint, m.sequence, m.payload, f.Now())
		case m, more := <-r.answers:
			if !more {
				r.answers = nil
				continue
			}
			heard, err = r.take(m)
		case <-second.C:
			heard, err = f.Scheduler.Tick(f.Endpoint, f.Now())
		}
		if err != nil {
			return err
		}
		if f.Heard != nil {
			f.Heard(heard)
		}
		if heard.NeedsReplay {
			r.need(ctx, heard.ReplayFrom)
		}
	}
}

// subscribe dials until it may stop.
func (f *Feed) subscribe(ctx context.Context, live chan<- message, connected chan<- struct{}) {
	pause := firstPause
	for ctx.Err() == nil {
		err := f.listen(ctx, live, func() {
			pause = firstPause
			select {
			case connected <- struct{}{}:
			default:
			}
		})
		f.trouble("events", f.Events, err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// listen hands over messages until the connection breaks.
func (f *Feed) listen(ctx context.Context, live chan<- message, connected func()) error {
	socket := zmq4.NewSub(ctx, zmq4.WithDialerMaxRetries(0), zmq4.WithDialerTimeout(lastPause))
	defer socket.Close()
	if err := socket.Dial(f.Events); err != nil {
		return err
	}
	if err := socket.SetOption(zmq4.OptionSubscribe, f.Topic); err != nil {
		return err
	}
	connected()
	for {
		frames, err := socket.Recv()
		if err != nil {
			return err
		}
		m, err := messageOf(frames.Frames)
		if err != nil {
			f.trouble("events", f.Events, err)
			continue
		}
		select {
		case live <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// messageOf reads from the back: engines before 0.26 leave the topic out of replays.
func messageOf(frames [][]byte) (message, error) {
	n := len(frames)
	if n < 2 || len(frames[n-2]) != 8 {
		return message{}, fmt.Errorf("not an engine's message: %d frames", n)
	}
	return message{binary.BigEndian.Uint64(frames[n-2]), frames[n-1]}, nil
}

func (f *Feed) trouble(what, address string, err error) {
	if f.Trouble != nil && err != nil && !errors.Is(err, context.Canceled) {
		f.Trouble(fmt.Errorf("%s of %s: %w", what, address, err))
	}
}
