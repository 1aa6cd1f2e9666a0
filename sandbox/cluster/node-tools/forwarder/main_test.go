package main

import (
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

const patience = 5 * time.Second

// through starts a forwarder to target and connects to it.
func through(t *testing.T, target string) *net.TCPConn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go serve(listener, target) //nolint:errcheck // ends with the listener
	return dial(t, listener.Addr().String())
}

func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	connection, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	connection.SetDeadline(time.Now().Add(patience)) //nolint:errcheck
	t.Cleanup(func() { connection.Close() })
	return connection.(*net.TCPConn)
}

// touch connects and reads. Where the forwarder resets the connection at once, it is a matter of
// scheduling whether connect or read returns that.
func touch(address string) error {
	connection, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return err
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(patience)) //nolint:errcheck
	_, err = connection.Read(make([]byte, 1))
	return err
}

// backend answers a connection with everything it was sent, once the caller has finished sending.
func backend(t *testing.T, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer connection.Close()
				sent, _ := io.ReadAll(connection)
				connection.Write(append([]byte("got "), sent...)) //nolint:errcheck
			}()
		}
	}()
	return listener
}

// reserve returns a loopback address whose port this test alone listens on: the socket that holds the port
// is bound and never listens, so that connections to it are refused until the test's own server listens.
func reserve(t *testing.T) string {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(socket) })
	if err := syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(bound.(*syscall.SockaddrInet4).Port))
}

func ask(t *testing.T, connection *net.TCPConn, question string) string {
	t.Helper()
	if _, err := io.WriteString(connection, question); err != nil {
		t.Fatal(err)
	}
	if err := connection.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(connection)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

func TestTheEndOfOneDirectionLeavesTheOtherOpen(t *testing.T) {
	listener := backend(t, "127.0.0.1:0")
	if got := ask(t, through(t, listener.Addr().String()), "hello"); got != "got hello" {
		t.Fatalf("answer %q", got)
	}
}

func TestABackendThatCloses(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		if connection, err := listener.Accept(); err == nil {
			connection.Close()
		}
	}()
	if _, err := through(t, listener.Addr().String()).Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Fatalf("the caller was not told that the backend is gone: %v", err)
	}
}

func TestABackendThatRestarts(t *testing.T) {
	address := reserve(t)
	first := backend(t, address)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go serve(listener, address) //nolint:errcheck // ends with the listener
	front := listener.Addr().String()

	ask(t, dial(t, front), "one")
	first.Close()
	if err := touch(front); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("nobody listens, and the forwarder did not reset the connection: %v", err)
	}
	backend(t, address)
	if got := ask(t, dial(t, front), "two"); got != "got two" {
		t.Fatalf("answer %q", got)
	}
}
