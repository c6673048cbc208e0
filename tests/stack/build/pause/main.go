// The first process of a node, and of every pod's sandbox: it keeps their namespaces, and waits for the processes whose
// parents have ended.
//
// With an address as its argument it answers there that all is well.
package main

import (
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGINT, syscall.SIGTERM)
	if len(os.Args) > 1 {
		go answer(os.Args[1])
	}
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		reap()
	}
}

// reap waits for all processes that have ended: several may have, and one signal tells of them.
func reap() {
	for {
		if process, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != nil || process == 0 {
			return
		}
	}
}

func answer(address string) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go answerOne(connection)
	}
}

func answerOne(connection net.Conn) {
	defer connection.Close()
	// Whoever asks sees for himself when the answer does not arrive. What is not read would break the connection.
	_ = connection.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = connection.Read(make([]byte, 4096))
	_, _ = connection.Write([]byte("HTTP/1.0 200 OK\r\n\r\n"))
}
