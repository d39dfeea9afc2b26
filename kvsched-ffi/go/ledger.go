package kvsched

// Ticket is a request that was recorded in a scheduler's ledger. The zero Ticket is of none, and may be
// redeemed like any other.
type Ticket uint64

// Outstanding is what was sent to an endpoint and has not come back.
type Outstanding struct {
	// Requests were sent and not finished; Decoding are those that have had their first token.
	Requests, Decoding uint32
	// PrefillTokens are to be computed of requests that have not.
	PrefillTokens uint64
	// KVTokens is what all of them will have added to the KV cache when they end.
	KVTokens uint64
}

// FirstToken says that a request has had its first token: its prompt no longer counts as work before
// others.
func (s *Scheduler) FirstToken(ticket Ticket) error {
	handle, err := s.use()
	if err != nil {
		return err
	}
	defer s.mu.RUnlock()
	return firstToken(handle, ticket)
}

// Finish says that a request has ended, well or badly, after so many tokens.
func (s *Scheduler) Finish(ticket Ticket, outputTokens uint32, now int64) error {
	handle, err := s.use()
	if err != nil {
		return err
	}
	defer s.mu.RUnlock()
	return finish(handle, ticket, outputTokens, now)
}

// Outstanding is what was sent to an endpoint and has not come back, by the ledger.
func (s *Scheduler) Outstanding(endpoint Endpoint) (Outstanding, error) {
	handle, err := s.use()
	if err != nil {
		return Outstanding{}, err
	}
	defer s.mu.RUnlock()
	return outstanding(handle, endpoint)
}
