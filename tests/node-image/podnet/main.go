// podnet is the pod network of a home-built node image: it routes every node's range of pod addresses to that node,
// hides pods behind their node where they leave the cluster, and only then writes the CNI configuration that makes a
// node Ready. It enforces no NetworkPolicy.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// How often everything is looked at though no Node changed: somebody may have taken a route or a rule away.
const again = 30 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "podnet:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	// Services do not work before kube-proxy does; the API server itself answers earlier.
	if endpoint := os.Getenv("CONTROL_PLANE_ENDPOINT"); endpoint != "" {
		config.Host = "https://" + endpoint
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	nodes := factory.Core().V1().Nodes()
	changed := make(chan struct{}, 1)
	wake := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	_, err = nodes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { wake() },
		UpdateFunc: func(before, now any) {
			if !same(before.(*corev1.Node), now.(*corev1.Node)) {
				wake()
			}
		},
		DeleteFunc: func(any) { wake() },
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), nodes.Informer().HasSynced) {
		return nil
	}
	name, ranges := os.Getenv("NODE_NAME"), strings.Split(os.Getenv("POD_SUBNET"), ",")
	ticker := time.NewTicker(again)
	defer ticker.Stop()
	for {
		all, err := nodes.Lister().List(labels.Everything())
		if err == nil {
			err = reconcile(name, ranges, all)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "podnet:", err)
			time.AfterFunc(time.Second, wake)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-ticker.C:
		}
	}
}

// Whether two states of a Node are one to the network.
func same(a, b *corev1.Node) bool {
	return slices.Equal(a.Spec.PodCIDRs, b.Spec.PodCIDRs) && slices.Equal(addresses(a), addresses(b))
}

func addresses(node *corev1.Node) []string {
	var found []string
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			found = append(found, address.Address)
		}
	}
	return found
}

func reconcile(name string, ranges []string, nodes []*corev1.Node) error {
	var own *corev1.Node
	wanted := map[string]string{}
	for _, node := range nodes {
		if node.Name == name {
			own = node
			continue
		}
		for _, cidr := range node.Spec.PodCIDRs {
			for _, address := range addresses(node) {
				if isV6(address) == isV6(cidr) {
					wanted[cidr] = address
				}
			}
		}
	}
	if own == nil || len(own.Spec.PodCIDRs) == 0 || len(addresses(own)) == 0 {
		return nil // It comes: the Node tells.
	}
	if err := route(wanted); err != nil {
		return err
	}
	if err := masquerade(ranges); err != nil {
		return err
	}
	return configure(own.Spec.PodCIDRs, addresses(own))
}

func isV6(text string) bool {
	address, _, _ := strings.Cut(text, "/")
	ip := net.ParseIP(address)
	return ip != nil && ip.To4() == nil
}
