// Command kube-router is the firewall half of kube-router: it enforces NetworkPolicy
// with iptables and ipset. Routing is the CNI bridge's work here and services are
// kube-proxy's, so those halves (and the BGP server they need) are not built in.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/cloudnativelabs/kube-router/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/pkg/options"
	"github.com/spf13/pflag"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

func main() {
	klog.InitFlags(nil)
	config := options.NewKubeRouterConfig()
	config.AddFlags(pflag.CommandLine)
	pflag.Parse()
	if config.HelpRequested {
		pflag.Usage()
		return
	}
	// klog keeps its level in the standard flag set, which pflag does not fill.
	if err := errors.Join(flag.Set("logtostderr", "true"), flag.Set("v", config.VLevel)); err != nil {
		fail(err)
	}
	if err := run(config); err != nil {
		fail(err)
	}
}

func run(config *options.KubeRouterConfig) error {
	if config.CleanupConfig {
		(&netpol.NetworkPolicyController{}).Cleanup()
		return nil
	}
	clientConfig, err := clientcmd.BuildConfigFromFlags(config.Master, config.Kubeconfig)
	if err != nil {
		return fmt.Errorf("read the API server's address from --kubeconfig or --master: %w", err)
	}
	client, err := kubernetes.NewForConfig(clientConfig)
	if err != nil {
		return err
	}

	stop := make(chan struct{})
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	policies := factory.Networking().V1().NetworkPolicies().Informer()
	factory.Start(stop)
	if !synced(config.CacheSyncTimeout, pods, namespaces, policies) {
		return fmt.Errorf("the API server sent no pods, namespaces and policies within %s", config.CacheSyncTimeout)
	}

	var ipsets sync.Mutex
	controller, err := netpol.NewNetworkPolicyController(client, config, pods, policies, namespaces, &ipsets)
	if err != nil {
		return err
	}
	pods.AddEventHandler(controller.PodEventHandler)
	namespaces.AddEventHandler(controller.NamespaceEventHandler)
	policies.AddEventHandler(controller.NetworkPolicyEventHandler)

	health, err := healthcheck.NewHealthController(config)
	if err != nil {
		return err
	}
	config.RunFirewall, config.RunRouter, config.RunServiceProxy = true, false, false // what /healthz watches
	health.SetAlive()
	heartbeats := make(chan *healthcheck.ControllerHeartbeat, 10)
	var running sync.WaitGroup
	running.Add(3)
	go health.RunServer(stop, &running)
	go health.RunCheck(heartbeats, stop, &running)
	go controller.Run(heartbeats, stop, &running)

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	<-signals
	close(stop)
	running.Wait()
	return nil
}

func synced(timeout time.Duration, informers ...cache.SharedIndexInformer) bool {
	expired := make(chan struct{})
	timer := time.AfterFunc(timeout, func() { close(expired) })
	defer timer.Stop()
	wanted := make([]cache.InformerSynced, len(informers))
	for i, informer := range informers {
		wanted[i] = informer.HasSynced
	}
	return cache.WaitForCacheSync(expired, wanted...)
}

func fail(err error) {
	fmt.Fprintf(os.Stderr, "kube-router: %v\n", err)
	os.Exit(1)
}
