package main

import (
	"testing"

	"kvsched.local/kvsched"
)

func TestBothSidesKnowTheSame(t *testing.T) {
	f := newFleet()
	hasher, err := kvsched.NewContentHasher(model, []byte("sixteen or more random bytes"), blockSize)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := newOurs(f, hasher, -1)
	if err != nil {
		t.Fatal(err)
	}
	llmd, err := newPeer(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	if err := agree(t.Context(), f, llmd, ours); err != nil {
		t.Fatal(err)
	}
	// The comparison notices a difference.
	f.names[0], f.names[1] = f.names[1], f.names[0]
	if err := agree(t.Context(), f, llmd, ours); err == nil {
		t.Fatal("two endpoints were exchanged, and nobody noticed")
	}
}
