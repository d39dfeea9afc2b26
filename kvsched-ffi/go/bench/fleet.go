package main

import (
	"math/rand/v2"
	"strconv"
)

// What both sides are given: as many prompts as there are below, of random tokens, each held in part by
// every endpoint of a fleet.
const (
	prompts      = 64
	promptTokens = 7200
	endpoints    = 8
	blockSize    = 16
)

// fleet is who holds what.
type fleet struct {
	prompts [prompts][]uint32
	names   [endpoints]string
}

func newFleet() *fleet {
	f := &fleet{}
	random := rand.New(rand.NewPCG(7, 7))
	for p := range f.prompts {
		f.prompts[p] = make([]uint32, promptTokens)
		for i := range f.prompts[p] {
			f.prompts[p][i] = random.Uint32N(150_000) // a vocabulary of today's models
		}
	}
	for e := range f.names {
		f.names[e] = "10.0.0." + strconv.Itoa(e+1) + ":8000"
	}
	return f
}

// held is how many leading blocks of prompt p endpoint e holds: none to seven eighths, another endpoint
// the most for every prompt.
func held(p, e int) int { return promptTokens / blockSize * ((p + e) % endpoints) / endpoints }
