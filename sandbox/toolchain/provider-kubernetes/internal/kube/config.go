// Package kube is the connection to a cluster: finding it, discovering its kinds, and server-side apply.
package kube

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Settings are the provider options that decide which cluster is meant and how it is spoken to.
type Settings struct {
	Kubeconfig string // a path or the content itself; empty: the ambient one, or the cluster this process runs in
	Context    string
	Cluster    string
	Namespace  string

	ClientSettings string // JSON of {burst, qps, timeout}
	UserAgent      string
}

// clientSettings is the provider option kubeClientSettings.
type clientSettings struct {
	Burst   *int     `json:"burst"`
	QPS     *float64 `json:"qps"`
	Timeout *int     `json:"timeout"`
}

// ParseKubeconfig accepts the content of a kubeconfig (YAML or JSON) or the path of one.
func ParseKubeconfig(pathOrContent string) (*clientcmdapi.Config, error) {
	content := []byte(pathOrContent)
	path := pathOrContent
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			path = home + "/" + rest
		}
	}
	if fromFile, err := os.ReadFile(path); err == nil {
		content = fromFile
	} else if !strings.ContainsAny(pathOrContent, "\n{") {
		return nil, fmt.Errorf("kubeconfig %q is neither a readable file nor the content of one: %w", pathOrContent, err)
	}
	config, err := clientcmd.Load(content)
	if err != nil {
		return nil, fmt.Errorf("the kubeconfig could not be parsed: %w", err)
	}
	return config, nil
}

// ActiveCluster finds the cluster entry that these settings select; nil if there is none to be found.
func ActiveCluster(settings Settings) (*clientcmdapi.Cluster, error) {
	var config *clientcmdapi.Config
	var err error
	if settings.Kubeconfig != "" {
		config, err = ParseKubeconfig(settings.Kubeconfig)
	} else {
		return nil, nil // the ambient kubeconfig is not part of the program, so its changes are not the program's either
	}
	if err != nil {
		return nil, err
	}
	name := settings.Cluster
	if name == "" {
		current := settings.Context
		if current == "" {
			current = config.CurrentContext
		}
		if context := config.Contexts[current]; context != nil {
			name = context.Cluster
		}
	}
	return config.Clusters[name], nil
}

// SameCluster compares two cluster entries, without the bookkeeping that says where they were read from.
func SameCluster(a, b *clientcmdapi.Cluster) bool {
	if a == nil || b == nil {
		return a == b
	}
	first, second := a.DeepCopy(), b.DeepCopy()
	first.LocationOfOrigin, second.LocationOfOrigin = "", ""
	return reflect.DeepEqual(first, second)
}

// load turns settings into a client configuration and the default namespace.
func load(settings Settings) (*rest.Config, string, error) {
	overrides := &clientcmd.ConfigOverrides{
		Context:        clientcmdapi.Context{Cluster: settings.Cluster, Namespace: settings.Namespace},
		CurrentContext: settings.Context,
	}
	var loader clientcmd.ClientConfig
	if settings.Kubeconfig != "" {
		config, err := ParseKubeconfig(settings.Kubeconfig)
		if err != nil {
			return nil, settings.Namespace, err
		}
		loader = clientcmd.NewDefaultClientConfig(*config, overrides)
	} else {
		rules := clientcmd.NewDefaultClientConfigLoadingRules()
		loader = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
	}
	namespace, _, err := loader.Namespace()
	if err != nil || namespace == "" {
		namespace = settings.Namespace
	}
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, namespace, fmt.Errorf("no cluster is configured: %w\n"+
			"Set KUBECONFIG, or `pulumi config set kubernetes:kubeconfig PATH`, or give the Provider a kubeconfig", err)
	}
	config.UserAgent = settings.UserAgent
	if err := applyClientSettings(config, settings.ClientSettings); err != nil {
		return nil, namespace, err
	}
	return config, namespace, nil
}

// applyClientSettings leaves the client unthrottled unless told otherwise: the API server has its own fairness, and a
// client that queues its own requests makes a large update slower for nobody's benefit.
func applyClientSettings(config *rest.Config, encoded string) error {
	var settings clientSettings
	if encoded != "" {
		if err := json.Unmarshal([]byte(encoded), &settings); err != nil {
			return fmt.Errorf("kubeClientSettings must be an object with burst, qps and timeout: %w", err)
		}
	}
	config.QPS, config.Burst = -1, 0
	qps, err := numberSetting(settings.QPS, "PULUMI_K8S_CLIENT_QPS")
	if err != nil {
		return err
	}
	burst, err := numberSetting(settings.Burst, "PULUMI_K8S_CLIENT_BURST")
	if err != nil {
		return err
	}
	timeout, err := numberSetting(settings.Timeout, "PULUMI_K8S_CLIENT_TIMEOUT")
	if err != nil {
		return err
	}
	if qps > 0 {
		config.QPS, config.Burst = float32(qps), int(max(burst, qps))
	}
	config.Timeout = time.Duration(timeout * float64(time.Second))
	return nil
}

func numberSetting[T int | float64](option *T, variable string) (float64, error) {
	if option != nil {
		return float64(*option), nil
	}
	text := os.Getenv(variable)
	if text == "" {
		return 0, nil
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("%s must be a number, not %q", variable, text)
	}
	return value, nil
}
