package engine

import (
	"context"
	"encoding/binary"

	"github.com/go-zeromq/zmq4"

	"kvsched.local/kvsched"
)

// replay is the question under way to the engine's replay socket, if there is one.
type replay struct {
	feed    *Feed
	from    uint64
	answers chan message
	cancel  context.CancelFunc
	// Whether the scheduler waits for the answers. If not, it was asked for what the scheduler does
	// not miss, as far as it knows: the answers are messages like any others.
	awaited bool
}

// need is the scheduler's wish for everything from a message on.
func (r *replay) need(ctx context.Context, from uint64) {
	if r.answers == nil || r.from > from {
		r.start(ctx, from)
	}
	r.awaited = true
}

func (r *replay) start(ctx context.Context, from uint64) {
	r.stop()
	if r.feed.Replay == "" {
		return // the scheduler gives up after a while
	}
	ctx, r.cancel = context.WithCancel(ctx)
	r.from, r.answers = from, make(chan message)
	go r.feed.ask(ctx, from, r.answers)
}

func (r *replay) stop() {
	if r.cancel != nil {
		r.cancel()
	}
	r.cancel, r.answers, r.awaited = nil, nil, false
}

func (r *replay) take(m message) (kvsched.Ingested, error) {
	f := r.feed
	if m.sequence == kvsched.ReplayEnd {
		awaited := r.awaited
		r.stop()
		if !awaited {
			return kvsched.Ingested{}, nil
		}
		return f.Scheduler.Replayed(f.Endpoint, m.sequence, nil, f.Now())
	}
	if r.awaited {
		return f.Scheduler.Replayed(f.Endpoint, m.sequence, m.payload, f.Now())
	}
	heard, err := f.Scheduler.Ingest(f.Endpoint, m.sequence, m.payload, f.Now())
	if err != nil || !heard.NeedsReplay || heard.ReplayFrom < r.from {
		return heard, err
	}
	// What is missing before it is what the engine no longer remembers, for it was asked already.
	r.awaited = true
	told, err := f.Scheduler.Replayed(f.Endpoint, m.sequence, m.payload, f.Now())
	told.Restarted = told.Restarted || heard.Restarted
	return told, err
}

// ask asks the engine for everything from a message on, hands over the answers and closes the channel.
func (f *Feed) ask(ctx context.Context, from uint64, answers chan<- message) {
	defer close(answers)
	socket := zmq4.NewDealer(ctx, zmq4.WithDialerMaxRetries(0), zmq4.WithDialerTimeout(lastPause),
		zmq4.WithTimeout(replayPatience))
	defer socket.Close()
	if err := socket.Dial(f.Replay); err != nil {
		f.trouble("replay", f.Replay, err)
		return
	}
	question := zmq4.NewMsgFrom(nil, binary.BigEndian.AppendUint64(nil, from))
	if err := socket.SendMulti(question); err != nil {
		f.trouble("replay", f.Replay, err)
		return
	}
	for {
		frames, err := socket.Recv()
		if err != nil {
			if ctx.Err() == nil {
				f.trouble("replay", f.Replay, err)
			}
			return
		}
		m, err := messageOf(frames.Frames)
		if err != nil {
			f.trouble("replay", f.Replay, err)
			return
		}
		select {
		case answers <- m:
		case <-ctx.Done():
			return
		}
		if m.sequence == kvsched.ReplayEnd {
			return
		}
	}
}
