package provider

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// testKubeconfig is that of the API server which the tests share; empty if there is none.
var testKubeconfig string

// TestMain runs an API server with etcd on loopback, from the binaries in $KUBE_BINARIES. There are no controllers: the
// tests play them, so that every state an object can be in can be had at will.
func TestMain(m *testing.M) {
	code := 1
	stop, err := startCluster()
	if err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, "the test cluster did not start:", err)
	}
	stop()
	os.Exit(code)
}

func needsCluster(t *testing.T) {
	t.Helper()
	if testKubeconfig == "" {
		t.Skip("no API server: set KUBE_BINARIES to a folder with kube-apiserver, and have etcd on PATH")
	}
}

func startCluster() (stop func(), err error) {
	var stops []func()
	stop = func() {
		for i := len(stops) - 1; i >= 0; i-- {
			stops[i]()
		}
	}
	folder := os.Getenv("KUBE_BINARIES")
	if folder == "" {
		return stop, nil
	}
	etcd, err := exec.LookPath("etcd")
	if err != nil {
		return stop, fmt.Errorf("KUBE_BINARIES is set, but etcd is not on PATH: %w", err)
	}
	dir, err := os.MkdirTemp("", "provider-kubernetes-test-")
	if err != nil {
		return stop, err
	}
	stops = append(stops, func() { _ = os.RemoveAll(dir) })
	key := filepath.Join(dir, "sa.key")
	if err := writeKey(key); err != nil {
		return stop, err
	}
	tokens := filepath.Join(dir, "tokens.csv")
	if err := os.WriteFile(tokens, []byte("test-token,admin,admin,system:masters\n"), 0o600); err != nil {
		return stop, err
	}
	ports, err := freePorts(3)
	if err != nil {
		return stop, err
	}
	store := fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	run := func(name, path string, arguments ...string) error {
		log, err := os.Create(filepath.Join(dir, name+".log"))
		if err != nil {
			return err
		}
		command := exec.Command(path, arguments...)
		command.Stdout, command.Stderr = log, log
		if err := command.Start(); err != nil {
			return err
		}
		stops = append(stops, func() { _ = command.Process.Kill(); _ = command.Wait() })
		return nil
	}
	if err := run("etcd", etcd, "--data-dir", filepath.Join(dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls", store, "--advertise-client-urls", store,
		"--listen-peer-urls", fmt.Sprintf("http://127.0.0.1:%d", ports[1])); err != nil {
		return stop, err
	}
	if err := run("kube-apiserver", filepath.Join(folder, "kube-apiserver"),
		"--etcd-servers="+store, "--cert-dir="+filepath.Join(dir, "certs"),
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", ports[2]),
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+key,
		"--service-account-signing-key-file="+key, "--token-auth-file="+tokens, "--authorization-mode=AlwaysAllow",
		"--service-cluster-ip-range=10.96.0.0/16", "--disable-admission-plugins=ServiceAccount",
	); err != nil {
		return stop, err
	}
	content := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"test",
		"clusters":[{"name":"test","cluster":{"server":"https://127.0.0.1:%d","insecure-skip-tls-verify":true}}],
		"contexts":[{"name":"test","context":{"cluster":"test","user":"admin"}}],
		"users":[{"name":"admin","user":{"token":"test-token"}}]}`, ports[2])
	if err := awaitReady(content); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "kube-apiserver.log"))
		lines := bytes.Split(bytes.TrimSpace(log), []byte("\n"))
		return stop, fmt.Errorf("%w\n%s", err, bytes.Join(lines[max(0, len(lines)-5):], []byte("\n")))
	}
	testKubeconfig = content
	return stop, nil
}

func awaitReady(kubeconfig string) error {
	config, err := clientcmd.RESTConfigFromKubeConfig([]byte(kubeconfig))
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	// A process that is starting up announces itself to nobody: this one is asked until it answers.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for {
		answer, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		if err == nil && strings.TrimSpace(string(answer)) == "ok" {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the API server is not ready: %v", err)
		}
	}
}

func writeKey(path string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	encoded := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	return os.WriteFile(path, encoded, 0o600)
}

func freePorts(count int) ([]int, error) {
	var ports []int
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = listener.Close() }()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
