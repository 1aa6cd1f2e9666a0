package provider

import (
	"context"
	"sync"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
)

// engine is the way back to the engine that started this process: messages for the person in front of it.
type engine struct {
	mu     sync.Mutex
	client pulumirpc.EngineClient
	warned map[string]bool
}

// connect dials the engine and calls lost when the connection breaks, which it only does when the engine has died.
func (e *engine) connect(ctx context.Context, address string, lost func()) error {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.client = pulumirpc.NewEngineClient(connection)
	e.mu.Unlock()
	go func() {
		wasReady := false
		for state := connection.GetState(); ; state = connection.GetState() {
			switch {
			case state == connectivity.Ready:
				wasReady = true
			case wasReady && state == connectivity.TransientFailure:
				lost()
				return
			case state == connectivity.Idle:
				connection.Connect()
			}
			if !connection.WaitForStateChange(ctx, state) {
				return
			}
		}
	}()
	return nil
}

func (e *engine) log(ctx context.Context, severity pulumirpc.LogSeverity, urn, message string, ephemeral bool) {
	e.mu.Lock()
	client := e.client
	e.mu.Unlock()
	if client == nil {
		return
	}
	// Messages are a courtesy: an operation does not fail because nobody listens.
	_, _ = client.Log(context.WithoutCancel(ctx), &pulumirpc.LogRequest{
		Severity: severity, Urn: urn, Message: message, Ephemeral: ephemeral,
	})
}

// status shows what a resource is waiting for; it vanishes when the resource is done.
func (e *engine) status(ctx context.Context, urn, message string) {
	e.log(ctx, pulumirpc.LogSeverity_INFO, urn, message, true)
}

func (e *engine) warn(ctx context.Context, urn, message string) {
	e.log(ctx, pulumirpc.LogSeverity_WARNING, urn, message, false)
}

// warnOnce is for what concerns the whole program: the first resource that notices says it.
func (e *engine) warnOnce(ctx context.Context, urn, message string) {
	e.mu.Lock()
	if e.warned == nil {
		e.warned = map[string]bool{}
	}
	known := e.warned[message]
	e.warned[message] = true
	e.mu.Unlock()
	if !known {
		e.warn(ctx, urn, message)
	}
}
