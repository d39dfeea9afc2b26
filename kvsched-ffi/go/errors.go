package kvsched

import "errors"

// Kinds of failure, to be asked for with errors.Is.
var (
	// ErrClosed is the failure of every method after Close.
	ErrClosed = errors.New("kvsched: closed")
	// ErrScheme says that the engine's hashes cannot be reproduced.
	ErrScheme = errors.New("kvsched: hash scheme cannot be reproduced")
	// ErrConfig says that a preset is unknown or a configuration wrong.
	ErrConfig = errors.New("kvsched: wrong configuration")
	// ErrSnapshot says that bytes are no snapshot, or not a whole one, or of another hasher.
	ErrSnapshot = errors.New("kvsched: wrong snapshot")
	// ErrInvalid says that an argument is out of its range, or a text not UTF-8.
	ErrInvalid = errors.New("kvsched: invalid argument")
	// ErrUnknownEndpoint says that an endpoint was never added, or has been removed.
	ErrUnknownEndpoint = errors.New("kvsched: unknown endpoint")
	// ErrNameTaken says that there is an endpoint of that name and rank.
	ErrNameTaken = errors.New("kvsched: endpoint name taken")
	// ErrFull says that all 65,535 endpoint numbers are taken.
	ErrFull = errors.New("kvsched: no endpoint number left")
	// ErrUnknownTicket says that a request has ended before, or its lease has.
	ErrUnknownTicket = errors.New("kvsched: unknown ticket")
	// ErrPrompt says that a prompt cannot be hashed.
	ErrPrompt = errors.New("kvsched: prompt cannot be hashed")
	// ErrNoEndpoint says that no endpoint can be chosen.
	ErrNoEndpoint = errors.New("kvsched: no endpoint can be chosen")
	// ErrInternal says that kvsched itself is at fault.
	ErrInternal = errors.New("kvsched: bug in kvsched")
)

// Error is a failed call. It wraps one of the Err variables.
type Error struct {
	// Op is what was called.
	Op string
	// Text says what was wrong, with values and limits.
	Text string
	kind error
}

// Error is the text, after what was called.
func (e *Error) Error() string { return "kvsched: " + e.Op + ": " + e.Text }

// Unwrap is the kind of failure.
func (e *Error) Unwrap() error { return e.kind }

func kindOf(status uint32) error {
	switch status {
	case statusScheme:
		return ErrScheme
	case statusConfig:
		return ErrConfig
	case statusSnapshot:
		return ErrSnapshot
	case statusInvalid, statusUTF8:
		return ErrInvalid
	case statusUnknownEndpoint:
		return ErrUnknownEndpoint
	case statusNameTaken:
		return ErrNameTaken
	case statusFull:
		return ErrFull
	case statusTicket:
		return ErrUnknownTicket
	case statusPrompt:
		return ErrPrompt
	case statusNoEndpoint:
		return ErrNoEndpoint
	default:
		return ErrInternal
	}
}
