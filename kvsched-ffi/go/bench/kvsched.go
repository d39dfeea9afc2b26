package main

import (
	"encoding/binary"

	"kvsched.local/kvsched"
)

// ours is a scheduler that has heard of the fleet.
type ours struct {
	scheduler *kvsched.Scheduler
	requests  [prompts]kvsched.Request
}

func newOurs(f *fleet, hasher *kvsched.Hasher, memo int) (*ours, error) {
	scheduler, err := kvsched.NewScheduler(hasher, kvsched.Options{MemoBytes: memo})
	if err != nil {
		return nil, err
	}
	o := &ours{scheduler: scheduler}
	for e, name := range f.names {
		endpoint, err := scheduler.AddEndpoint(name)
		if err != nil {
			return nil, err
		}
		sequence := uint64(0)
		for p := range f.prompts {
			candidate := kvsched.Candidate{Endpoint: endpoint, WaitingRequests: uint32(e)}
			o.requests[p].Prompt.Tokens = f.prompts[p]
			o.requests[p].Candidates = append(o.requests[p].Candidates, candidate)
			if held(p, e) == 0 {
				continue
			}
			tokens := f.prompts[p][:held(p, e)*blockSize]
			hashes, err := hasher.Hash(kvsched.Prompt{Tokens: tokens}, nil)
			if err != nil {
				return nil, err
			}
			if _, err := scheduler.Ingest(endpoint, sequence, stored(hashes, tokens), 0); err != nil {
				return nil, err
			}
			sequence++
		}
	}
	return o, nil
}

// blocks are the leading blocks of prompt p that every endpoint holds, as the scheduler believes.
func (o *ours) blocks(p int) ([]uint32, error) {
	request := &o.requests[p]
	return o.scheduler.Matches(request.Candidates[0].Endpoint, &request.Prompt)
}

// stored is a message of an engine's event socket: an array of time, events and rank, in msgpack.
func stored(hashes []uint64, tokens []uint32) []byte {
	m := []byte{0x93, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 0x91, 0x97, 0xab}
	m = append(m, "BlockStored"...)
	m = binary.BigEndian.AppendUint16(append(m, 0xdc), uint16(len(hashes)))
	for _, hash := range hashes {
		m = binary.BigEndian.AppendUint64(append(m, 0xcf), hash)
	}
	m = append(m, 0xc0) // no parent
	m = binary.BigEndian.AppendUint16(append(m, 0xdc), uint16(len(tokens)))
	for _, token := range tokens {
		m = binary.BigEndian.AppendUint32(append(m, 0xce), token)
	}
	m = append(m, blockSize, 0xc0, 0xa3) // no adapter
	m = append(m, "GPU"...)
	return append(m, 0x00) // rank
}
