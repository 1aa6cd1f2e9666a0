package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/pulumi/pulumi/sdk/v3/go/property"
)

// replaceOnTriggers turns a change of `triggers` into a replacement unless there is an update command to run.
func replaceOnTriggers(provider p.Provider) p.Provider {
	diff := provider.Diff
	provider.Diff = func(ctx context.Context, req p.DiffRequest) (p.DiffResponse, error) {
		resp, err := diff(ctx, req)
		if !req.Inputs.Get("update").IsNull() {
			return resp, err
		}
		for path, change := range resp.DetailedDiff {
			if path != "triggers" && !strings.HasPrefix(path, "triggers[") {
				continue
			}
			switch change.Kind {
			case p.Add:
				change.Kind = p.AddReplace
			case p.Delete:
				change.Kind = p.DeleteReplace
			case p.Update:
				change.Kind = p.UpdateReplace
			default: // already a replacement
			}
			resp.DetailedDiff[path] = change
		}
		return resp, err
	}
	return provider
}

// refuseRemote says what to do about the half of the package that is not here.
func refuseRemote(provider p.Provider) p.Provider {
	refuse := func(token tokens.Type) error {
		if token.Module().Name() != "remote" {
			return nil
		}
		return fmt.Errorf("%s needs the official plugin, this stand-in runs local commands only: "+
			"write `ssh` into a command:local:Command, or run `pulumi plugin install resource command %s`", token, version)
	}
	check, invoke := provider.Check, provider.Invoke
	provider.Check = func(ctx context.Context, req p.CheckRequest) (p.CheckResponse, error) {
		if err := refuse(req.Urn.Type()); err != nil {
			return p.CheckResponse{}, err
		}
		return check(ctx, req)
	}
	provider.Invoke = func(ctx context.Context, req p.InvokeRequest) (p.InvokeResponse, error) {
		if err := refuse(req.Token); err != nil {
			return p.InvokeResponse{}, err
		}
		return invoke(ctx, req)
	}
	return provider
}

// knowSecrets lets commands recognise secret values in what they print: by the time
// a resource sees its inputs, which of them are secret is no longer visible.
func knowSecrets(provider p.Provider) p.Provider {
	create, update, del, invoke := provider.Create, provider.Update, provider.Delete, provider.Invoke
	provider.Create = func(ctx context.Context, req p.CreateRequest) (p.CreateResponse, error) {
		return create(withSecrets(ctx, req.Properties), req)
	}
	provider.Update = func(ctx context.Context, req p.UpdateRequest) (p.UpdateResponse, error) {
		return update(withSecrets(ctx, req.Inputs, req.State), req)
	}
	provider.Delete = func(ctx context.Context, req p.DeleteRequest) error {
		return del(withSecrets(ctx, req.Properties), req)
	}
	provider.Invoke = func(ctx context.Context, req p.InvokeRequest) (p.InvokeResponse, error) {
		// SDKs unwrap secrets before they call a function and only remember that there were some,
		// so here whatever may be one is taken for one.
		args := req.Args
		for _, name := range []string{"environment", "stdin"} {
			if value, given := args.GetOk(name); given {
				args = args.Set(name, value.WithSecret(true))
			}
		}
		return invoke(withSecrets(ctx, args), req)
	}
	return provider
}

type (
	secretsKey struct{}
	secrets    []string
)

func withSecrets(ctx context.Context, maps ...property.Map) context.Context {
	var found secrets
	for _, values := range maps {
		found.collect(property.New(values), false)
	}
	// Longest first, so that a secret which contains another disappears whole.
	slices.SortFunc(found, func(a, b string) int { return len(b) - len(a) })
	return context.WithValue(ctx, secretsKey{}, found)
}

func secretsOf(ctx context.Context) secrets {
	found, _ := ctx.Value(secretsKey{}).(secrets)
	return found
}

func (s *secrets) collect(value property.Value, inside bool) {
	inside = inside || value.Secret()
	switch {
	case value.IsMap():
		for _, item := range value.AsMap().All {
			s.collect(item, inside)
		}
	case value.IsArray():
		for _, item := range value.AsArray().All {
			s.collect(item, inside)
		}
	case inside && value.IsString():
		// Output is passed on by the line, so each line of a secret is one.
		for line := range strings.Lines(value.AsString()) {
			if line = strings.TrimSpace(line); line != "" {
				*s = append(*s, line)
			}
		}
	}
}

// hide blanks every secret in a text.
func (s secrets) hide(text string) string {
	for _, secret := range s {
		text = strings.ReplaceAll(text, secret, "[secret]")
	}
	return text
}
