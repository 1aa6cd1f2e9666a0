// Command forwarder carries TCP connections between two network namespaces: it
// listens in the one given by --listen-netns and dials in its own.
//
//	forwarder --listen-netns FILE [--dns ADDRESS] LISTEN=TARGET...
//
// Names in targets are looked up at the DNS server given by --dns, for each connection anew.
//
// A socket stays in the namespace it was made in, so entering the other namespace
// for the moment of listening is all it takes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const dialTimeout = 5 * time.Second

var dialer = net.Dialer{Timeout: dialTimeout}

func main() {
	log.SetFlags(log.LstdFlags | log.Lmicroseconds)
	netns := flag.String("listen-netns", "", "file of the network namespace to listen in")
	dns := flag.String("dns", "", "address and port of the DNS server that knows the targets' names")
	flag.Parse()
	if *netns == "" || flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: forwarder --listen-netns FILE LISTEN=TARGET...")
		os.Exit(2)
	}
	if *dns != "" {
		dialer.Resolver = &net.Resolver{
			PreferGo: true,
			Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, *dns)
			},
		}
	}
	failed := make(chan error)
	for _, route := range flag.Args() {
		listen, target, found := strings.Cut(route, "=")
		if !found {
			log.Fatalf("%q: want LISTEN=TARGET, for example 127.0.0.1:16443=10.0.0.1:6443", route)
		}
		listener, err := listenIn(*netns, listen)
		if err != nil {
			log.Fatalf("listen on %s: %v", listen, err)
		}
		log.Printf("%s → %s", listen, target)
		go func() { failed <- serve(listener, target) }()
	}
	log.Fatal(<-failed)
}

// listenIn opens a listening socket in another network namespace. The thread that
// enters it never serves anything else: staying locked, it ends with its goroutine.
func listenIn(netns, address string) (net.Listener, error) {
	type result struct {
		listener net.Listener
		err      error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread()
		file, err := os.Open(netns)
		if err != nil {
			done <- result{err: err}
			return
		}
		defer file.Close()
		if _, _, errno := syscall.RawSyscall(sysSetns, file.Fd(), syscall.CLONE_NEWNET, 0); errno != 0 {
			done <- result{err: fmt.Errorf("enter %s: %w", netns, errno)}
			return
		}
		listener, err := net.Listen("tcp", address)
		done <- result{listener, err}
	}()
	got := <-done
	return got.listener, got.err
}

func serve(listener net.Listener, target string) error {
	for {
		client, err := listener.Accept()
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ECONNABORTED) {
			continue
		}
		if err != nil {
			return err
		}
		go forward(client.(*net.TCPConn), target)
	}
}

func forward(client *net.TCPConn, target string) {
	defer client.Close()
	dialed, err := dialer.Dial("tcp", target)
	if err != nil {
		log.Printf("%s: %v", target, err)
		client.SetLinger(0) //nolint:errcheck // a reset tells the caller that nobody answered
		return
	}
	backend := dialed.(*net.TCPConn)
	defer backend.Close()
	done := make(chan struct{})
	go func() {
		carry(backend, client)
		close(done)
	}()
	carry(client, backend)
	<-done
}

// carry copies one direction until its end and passes the end on, leaving the other
// direction open: an HTTP client may finish sending long before the answer comes.
func carry(to, from *net.TCPConn) {
	io.Copy(to, from) //nolint:errcheck // either way this direction has ended, and both peers are told
	to.CloseWrite()   //nolint:errcheck
	from.CloseRead()  //nolint:errcheck
}
