// Reads a configuration of kind from standard input as `kind create cluster` does: its parser, its defaults, its rules. Exits with 0
// when kind would begin to create the cluster, otherwise with 1 and what kind says.
//
// kind has no function for that alone. So it is let to begin, on a Docker that has nothing: this program again, by another name.
package main

import (
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/kind/pkg/cluster"
	kindlog "sigs.k8s.io/kind/pkg/log"
)

func main() {
	log.SetFlags(0)
	if filepath.Base(os.Args[0]) == "docker" {
		emptyDocker(os.Args[1:])
		return
	}
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	folder, err := os.MkdirTemp("", "kind-config-")
	if err != nil {
		log.Fatal(err)
	}
	err = create(folder, text)
	os.RemoveAll(folder)
	log.Fatal(err)
}

func create(folder string, text []byte) error {
	own, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Symlink(own, filepath.Join(folder, "docker")); err != nil {
		return err
	}
	os.Setenv("PATH", folder)
	provider := cluster.NewProvider(cluster.ProviderWithDocker(), cluster.ProviderWithLogger(listener{folder}))
	if err := provider.Create("", cluster.CreateWithRawConfig(text)); err != nil {
		return err
	}
	return fmt.Errorf("kind created a cluster without Docker")
}

// emptyDocker runs no containers, has no images and makes none.
func emptyDocker(arguments []string) {
	switch strings.Join(arguments[:min(1, len(arguments))], "") {
	case "info":
		fmt.Println("{}")
	case "ps":
	default:
		log.Fatalf("docker %s: there is no Docker here", strings.Join(arguments, " "))
	}
}

// listener waits for what kind says when the configuration has passed.
type listener struct{ folder string }

func (l listener) Warn(string)                        {}
func (l listener) Warnf(string, ...interface{})       {}
func (l listener) Error(string)                       {}
func (l listener) Errorf(string, ...interface{})      {}
func (l listener) V(kindlog.Level) kindlog.InfoLogger { return l }
func (l listener) Info(string)                        {}
func (l listener) Enabled() bool                      { return true }
func (l listener) Infof(format string, arguments ...interface{}) {
	if strings.HasPrefix(format, "Creating cluster") {
		os.RemoveAll(l.folder)
		os.Exit(0)
	}
}
