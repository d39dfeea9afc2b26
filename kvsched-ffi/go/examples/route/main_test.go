package main

import (
	"os"
	"strings"
	"testing"
)

func Example() {
	main()
	// Output:
	// endpoint 1, 0 of 6 blocks cached
	// endpoint 1, 6 of 6 blocks cached
}

func TestTheReadmeShowsThisProgram(t *testing.T) {
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, whole, _ := strings.Cut(string(program), "\n")
	_, shown, _ := strings.Cut(string(readme), "```go\n")
	shown, _, _ = strings.Cut(shown, "```")
	if shown != whole {
		t.Fatal("the README shows another program")
	}
	if !strings.Contains(string(readme), "endpoint 1, 0 of 6 blocks cached\nendpoint 1, 6 of 6 blocks cached\n") {
		t.Fatal("the README says otherwise what it prints")
	}
}
