package kube

import "context"

type warningKey struct{}

// WithWarnings has the API server's warnings (a deprecated version, a pod that policy would refuse, an unknown field)
// delivered to the resource whose request caused them.
func WithWarnings(ctx context.Context, warn func(text string)) context.Context {
	return context.WithValue(ctx, warningKey{}, warn)
}

type warningHandler struct{}

func (warningHandler) HandleWarningHeaderWithContext(ctx context.Context, code int, _, text string) {
	if warn, ok := ctx.Value(warningKey{}).(func(string)); ok && code == 299 && text != "" {
		warn(text)
	}
}
