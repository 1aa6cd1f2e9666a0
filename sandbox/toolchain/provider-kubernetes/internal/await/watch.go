// Package await waits for objects to become ready or to go away. It only ever waits on watches: whatever changes in the
// cluster wakes it up, and nothing is polled.
package await

import (
	"context"
	"strconv"
	"sync"

	"runbook/sandbox/toolchain/provider-kubernetes/internal/kube"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
)

// query selects objects to look at.
type query struct {
	resource  schema.GroupVersionResource
	namespace string
	labels    string
	fields    string
}

func byName(resource schema.GroupVersionResource, namespace, name string) query {
	return query{resource: resource, namespace: namespace, fields: "metadata.name=" + name}
}

// source shows the cluster to a readiness check. known is false as long as the answer has not arrived.
type source interface {
	list(q query) (objects []*unstructured.Unstructured, known bool)
}

func client(cluster *kube.Cluster, q query) dynamic.ResourceInterface {
	resource := cluster.Dynamic.Resource(q.resource)
	if q.namespace == "" {
		return resource
	}
	return resource.Namespace(q.namespace)
}

// board watches whatever a check asked for, and says when something changed.
type board struct {
	ctx     context.Context
	cluster *kube.Cluster
	changed chan struct{}

	mu        sync.Mutex
	informers map[query]cache.SharedIndexInformer
	trouble   error // the latest watch that failed, for the message of a wait that got nowhere
}

func newBoard(ctx context.Context, cluster *kube.Cluster) *board {
	return &board{
		ctx: ctx, cluster: cluster,
		changed: make(chan struct{}, 1), informers: map[query]cache.SharedIndexInformer{},
	}
}

func (b *board) wake() {
	select {
	case b.changed <- struct{}{}:
	default: // a wake-up is pending already; the check that follows sees this change as well
	}
}

func (b *board) list(q query) ([]*unstructured.Unstructured, bool) {
	informer := b.informer(q)
	if !informer.HasSynced() {
		return nil, false
	}
	stored := informer.GetStore().List()
	objects := make([]*unstructured.Unstructured, 0, len(stored))
	for _, item := range stored {
		if object, ok := item.(*unstructured.Unstructured); ok {
			objects = append(objects, object)
		}
	}
	return objects, true
}

func (b *board) informer(q query) cache.SharedIndexInformer {
	b.mu.Lock()
	defer b.mu.Unlock()
	if informer, ok := b.informers[q]; ok {
		return informer
	}
	resource := client(b.cluster, q)
	narrow := func(options metav1.ListOptions) metav1.ListOptions {
		options.LabelSelector, options.FieldSelector = q.labels, q.fields
		return options
	}
	informer := cache.NewSharedIndexInformer(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return resource.List(ctx, narrow(options))
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return resource.Watch(ctx, narrow(options))
		},
	}, &unstructured.Unstructured{}, 0, cache.Indexers{})
	_, _ = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { b.wake() },
		UpdateFunc: func(any, any) { b.wake() },
		DeleteFunc: func(any) { b.wake() },
	})
	_ = informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		b.mu.Lock()
		b.trouble = err
		b.mu.Unlock()
	})
	b.informers[q] = informer
	go informer.RunWithContext(b.ctx)
	go func() {
		if cache.WaitForCacheSync(b.ctx.Done(), informer.HasSynced) {
			b.wake() // an empty list is news too
		}
	}()
	return informer
}

func (b *board) lastTrouble() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.trouble
}

// snapshot looks once, without watching; reads use it.
type snapshot struct {
	ctx     context.Context
	cluster *kube.Cluster
}

func (s snapshot) list(q query) ([]*unstructured.Unstructured, bool) {
	items, err := client(s.cluster, q).List(s.ctx, metav1.ListOptions{LabelSelector: q.labels, FieldSelector: q.fields})
	if err != nil {
		return nil, false
	}
	objects := make([]*unstructured.Unstructured, len(items.Items))
	for i := range items.Items {
		objects[i] = &items.Items[i]
	}
	return objects, true
}

// older reports whether a was written before b. A watch may start from a cache that has not seen our own write yet; the
// old object in it looks perfectly ready.
func older(a, b *unstructured.Unstructured) bool {
	if a.GetGeneration() < b.GetGeneration() {
		return true
	}
	av, aErr := strconv.ParseUint(a.GetResourceVersion(), 10, 64)
	bv, bErr := strconv.ParseUint(b.GetResourceVersion(), 10, 64)
	return aErr == nil && bErr == nil && av < bv
}
