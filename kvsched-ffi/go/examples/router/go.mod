module kvsched.local/kvsched/examples/router

go 1.25.0

require (
	kvsched.local/kvsched v0.0.0
	kvsched.local/kvsched/engine v0.0.0
)

require (
	github.com/go-zeromq/goczmq/v4 v4.2.2 // indirect
	github.com/go-zeromq/zmq4 v0.17.0 // indirect
	golang.org/x/sync v0.7.0 // indirect
	golang.org/x/text v0.15.0 // indirect
)

replace (
	kvsched.local/kvsched => ../../
	kvsched.local/kvsched/engine => ../../engine
)
