package epp

import (
	"sync"

	"kvsched.local/kvsched"
)

// mostFlights is how many requests are remembered; beyond it, the oldest are forgotten. The ledger
// itself forgets them when their lease is over.
const mostFlights = 1 << 16

// flights are the requests under way, by the framework's id. The zero value has none.
type flights struct {
	mu     sync.Mutex
	byID   map[string]*flight
	oldest []string
}

type flight struct {
	ticket    kvsched.Ticket
	streaming bool
}

func (f *flights) depart(request string, ticket kvsched.Ticket) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byID == nil {
		f.byID = map[string]*flight{}
	}
	if len(f.oldest) >= mostFlights {
		delete(f.byID, f.oldest[0])
		f.oldest = f.oldest[1:]
	}
	f.oldest = append(f.oldest, request)
	f.byID[request] = &flight{ticket: ticket}
}

// first is the ticket of a request, and whether it has not been asked for before.
func (f *flights) first(request string) (kvsched.Ticket, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	flight := f.byID[request]
	if flight == nil || flight.streaming {
		return 0, false
	}
	flight.streaming = true
	return flight.ticket, true
}

func (f *flights) arrive(request string) (kvsched.Ticket, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	flight := f.byID[request]
	if flight == nil {
		return 0, false
	}
	delete(f.byID, request)
	return flight.ticket, true
}
