package provider

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"runbook/sandbox/toolchain/provider-kubernetes/internal/kube"
	"runbook/sandbox/toolchain/provider-kubernetes/internal/object"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// options are the provider settings that are not about how to reach the cluster.
type options struct {
	deleteUnreachable           bool
	suppressDeprecationWarnings bool
	mutable                     object.Mutability
}

// CheckConfig refuses settings that this provider would otherwise ignore.
func (p *Provider) CheckConfig(_ context.Context, req *pulumirpc.CheckRequest) (*pulumirpc.CheckResponse, error) {
	news, err := unmarshal(req.GetNews(), false)
	if err != nil {
		return nil, err
	}
	response := &pulumirpc.CheckResponse{Inputs: req.GetNews()}
	if directory := news["renderYamlToDirectory"]; directory.IsString() && directory.StringValue() != "" {
		response.Failures = append(response.Failures, &pulumirpc.CheckFailure{
			Property: "renderYamlToDirectory",
			Reason:   "the sandbox's stand-in for the Kubernetes provider does not render YAML; remove the option",
		})
	}
	return response, nil
}

// DiffConfig decides whether changed settings mean another cluster: everything on the old one is then to be replaced.
func (p *Provider) DiffConfig(_ context.Context, req *pulumirpc.DiffRequest) (*pulumirpc.DiffResponse, error) {
	olds, err := unmarshal(req.GetOlds(), false)
	if err != nil {
		return nil, err
	}
	news, err := unmarshal(req.GetNews(), false)
	if err != nil {
		return nil, err
	}
	diff := olds.Diff(news)
	if diff == nil {
		return &pulumirpc.DiffResponse{Changes: pulumirpc.DiffResponse_DIFF_NONE}, nil
	}
	response := &pulumirpc.DiffResponse{Changes: pulumirpc.DiffResponse_DIFF_SOME}
	for _, key := range diff.ChangedKeys() {
		response.Diffs = append(response.Diffs, string(key))
	}
	const identifier = "clusterIdentifier"
	selecting := []string{"kubeconfig", "context", "cluster"}
	switch {
	case diff.Updated(identifier):
		response.Replaces = append(response.Replaces, identifier)
	case diff.Same(identifier) && news.HasValue(identifier):
		// The program vouches that it is the same cluster, whatever the kubeconfig looks like.
	case slices.ContainsFunc(selecting, func(key string) bool { return news[resource.PropertyKey(key)].IsComputed() }):
		for _, key := range selecting {
			if news[resource.PropertyKey(key)].IsComputed() {
				response.Replaces = append(response.Replaces, key)
			}
		}
	case anotherCluster(settingsFrom(olds), settingsFrom(news)):
		for _, key := range selecting {
			if slices.Contains(response.Diffs, key) {
				response.Replaces = append(response.Replaces, key)
			}
		}
	}
	return response, nil
}

// anotherCluster compares the cluster entries that two sets of settings select. A kubeconfig that cannot be read any
// more proves nothing, and replacing everything is too much to do on a suspicion.
func anotherCluster(olds, news kube.Settings) bool {
	oldCluster, oldErr := kube.ActiveCluster(olds)
	newCluster, newErr := kube.ActiveCluster(news)
	if oldErr != nil || newErr != nil || oldCluster == nil || newCluster == nil {
		return false
	}
	return !kube.SameCluster(oldCluster, newCluster)
}

func settingsFrom(props resource.PropertyMap) kube.Settings {
	text := func(key resource.PropertyKey) string {
		switch value := props[key]; {
		case value.IsString():
			return value.StringValue()
		case value.IsObject():
			encoded, _ := json.Marshal(value.ObjectValue().Mappable())
			return string(encoded)
		}
		return ""
	}
	return kube.Settings{
		Kubeconfig: text("kubeconfig"), Context: text("context"), Cluster: text("cluster"), Namespace: text("namespace"),
	}
}

// Configure connects to the cluster without waiting for it: a preview may do without.
func (p *Provider) Configure(
	ctx context.Context, req *pulumirpc.ConfigureRequest,
) (*pulumirpc.ConfigureResponse, error) {
	setting := func(name string) string { return req.GetVariables()["kubernetes:config:"+name] }
	enabled := func(name, variable string) bool {
		if value, set := req.GetVariables()["kubernetes:config:"+name]; set {
			return value == "true"
		}
		return os.Getenv(variable) == "true"
	}
	p.options = options{
		deleteUnreachable:           enabled("deleteUnreachable", "PULUMI_K8S_DELETE_UNREACHABLE"),
		suppressDeprecationWarnings: enabled("suppressDeprecationWarnings", "PULUMI_K8S_SUPPRESS_DEPRECATION_WARNINGS"),
		mutable: object.Mutability{
			ConfigMaps: enabled("enableConfigMapMutable", "PULUMI_K8S_ENABLE_CONFIGMAP_MUTABLE"),
			Secrets:    enabled("enableSecretMutable", "PULUMI_K8S_ENABLE_SECRET_MUTABLE"),
		},
	}
	if setting("enableServerSideApply") == "false" || os.Getenv("PULUMI_K8S_ENABLE_SERVER_SIDE_APPLY") == "false" {
		p.engine.warnOnce(ctx, "", "enableServerSideApply is false, but the sandbox's stand-in for the Kubernetes "+
			"provider knows only server-side apply and uses it")
	}
	p.cluster = kube.Connect(kube.Settings{
		Kubeconfig:     setting("kubeconfig"),
		Context:        setting("context"),
		Cluster:        setting("cluster"),
		Namespace:      setting("namespace"),
		ClientSettings: setting("kubeClientSettings"),
		UserAgent:      "pulumi-kubernetes/" + p.version,
	})
	return &pulumirpc.ConfigureResponse{
		AcceptSecrets:                   true,
		AcceptOutputs:                   true,
		SupportsPreview:                 true,
		SupportsAutonamingConfiguration: true,
	}, nil
}

// unreachable explains why an operation that needs the cluster is not even tried.
func (p *Provider) unreachable() error {
	if err := p.cluster.Reachable(); err != nil {
		return fmt.Errorf("configured Kubernetes cluster is unreachable: %w", err)
	}
	return nil
}
