package kube

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// probeTimeout bounds the one question that decides whether the cluster is there at all.
const probeTimeout = 15 * time.Second

// Cluster is one Kubernetes API server. It is made even when there is none, so that a preview can go on without it;
// everything that needs the server asks Reachable first.
type Cluster struct {
	Namespace string // where namespaced objects go that do not say where
	Dynamic   dynamic.Interface
	Client    kubernetes.Interface
	mapper    *restmapper.DeferredDiscoveryRESTMapper
	host      string
	probe     func() error
}

// Connect prepares a client and starts looking whether the server answers; it does not wait for the answer.
func Connect(settings Settings) *Cluster {
	config, namespace, err := load(settings)
	cluster := &Cluster{Namespace: namespace}
	if err == nil {
		err = cluster.build(config)
	}
	if err != nil {
		cluster.probe = func() error { return err }
		return cluster
	}
	cluster.probe = sync.OnceValue(cluster.askVersion)
	go func() { _ = cluster.probe() }()
	return cluster
}

func (c *Cluster) build(config *rest.Config) error {
	config.WarningHandlerWithContext = warningHandler{}
	c.host = config.Host
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return fmt.Errorf("the credentials in the kubeconfig cannot be used: %w", err)
	}
	if c.Dynamic, err = dynamic.NewForConfigAndClient(config, httpClient); err != nil {
		return err
	}
	client, err := kubernetes.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return err
	}
	c.Client = client
	c.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery()))
	return nil
}

func (c *Cluster) askVersion() error {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	err := c.Client.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("the Kubernetes API server %s does not answer: %w", c.host, err)
	}
	return nil
}

// Reachable returns nil once the server has answered, and otherwise why it is out of reach.
func (c *Cluster) Reachable() error {
	return c.probe()
}

// mapping finds where objects of a kind are kept.
func (c *Cluster) mapping(gvk schema.GroupVersionKind) (*meta.RESTMapping, error) {
	return c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
}

// ForgetKinds makes the next question about a kind go to the server again, for after a CRD has come.
func (c *Cluster) ForgetKinds() {
	c.mapper.Reset()
}

// Knows reports whether the server serves this kind.
func (c *Cluster) Knows(gvk schema.GroupVersionKind) bool {
	if c.Reachable() != nil {
		return false
	}
	_, err := c.mapping(gvk)
	return err == nil
}

// Resource is the client for the kind and namespace of an object.
func (c *Cluster) Resource(obj *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	mapping, err := c.mapping(obj.GroupVersionKind())
	if err != nil {
		return nil, err
	}
	client := c.Dynamic.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		return client, nil
	}
	namespace := obj.GetNamespace()
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	return client.Namespace(namespace), nil
}

// GVR is the resource name of an object's kind, for watches.
func (c *Cluster) GVR(obj *unstructured.Unstructured) (schema.GroupVersionResource, error) {
	mapping, err := c.mapping(obj.GroupVersionKind())
	if err != nil {
		return schema.GroupVersionResource{}, err
	}
	return mapping.Resource, nil
}

// Namespaced tells whether objects of a kind live in a namespace. Built-in kinds are answered without a server, so that
// a preview works before there is one; of a kind nobody knows yet it is assumed, as for most custom resources it is true.
func (c *Cluster) Namespaced(gvk schema.GroupVersionKind) bool {
	if namespaced, known := builtinScope(gvk); known {
		return namespaced
	}
	if c.Reachable() != nil {
		return true
	}
	mapping, err := c.mapping(gvk)
	return err != nil || mapping.Scope.Name() == meta.RESTScopeNameNamespace
}
