package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	// Marks routes as ours, so that those of nodes that are gone are found, also after a restart.
	protocol = "97"
	chain    = "PODNET-MASQ"
	conflist = "/etc/cni/net.d/10-podnet.conflist"
)

func do(program string, arguments ...string) (string, error) {
	output, err := exec.Command(program, arguments...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, strings.Join(arguments, " "), err, bytes.TrimSpace(output))
	}
	return string(output), nil
}

// Routes to other nodes' ranges, and none to those of nodes that are gone.
func route(wanted map[string]string) error {
	for _, family := range []string{"-4", "-6"} {
		output, err := do("ip", family, "route", "show", "proto", protocol)
		if err != nil {
			return err
		}
		there := map[string]string{}
		for line := range strings.Lines(output) {
			if words := strings.Fields(line); len(words) >= 3 && words[1] == "via" {
				there[words[0]] = words[2]
			}
		}
		for cidr, via := range wanted {
			if isV6(cidr) != (family == "-6") || there[cidr] == via {
				continue
			}
			if _, err := do("ip", family, "route", "replace", cidr, "via", via, "proto", protocol); err != nil {
				return err
			}
		}
		for cidr := range there {
			if _, ok := wanted[cidr]; !ok {
				if _, err := do("ip", family, "route", "del", cidr, "proto", protocol); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Pods keep their addresses inside the cluster, and take their node's where they leave it.
func masquerade(ranges []string) error {
	for _, cidr := range ranges {
		program := "iptables"
		if isV6(cidr) {
			program = "ip6tables"
		}
		// Each with the way it is put back alone: what returns goes before what masquerades.
		rules := []struct {
			how  string
			rule []string
		}{
			{"-A", []string{chain, "-j", "MASQUERADE"}},
			{"-I", []string{chain, "-d", cidr, "-j", "RETURN"}},
			{"-A", []string{"POSTROUTING", "-s", cidr, "-m", "addrtype", "!", "--dst-type", "LOCAL", "-j", chain}},
		}
		if _, err := do(program, "-w", "-t", "nat", "-S", chain); err != nil {
			if _, err := do(program, "-w", "-t", "nat", "-N", chain); err != nil {
				return err
			}
		}
		for _, one := range rules {
			if _, err := do(program, append([]string{"-w", "-t", "nat", "-C"}, one.rule...)...); err == nil {
				continue
			}
			if _, err := do(program, append([]string{"-w", "-t", "nat", one.how}, one.rule...)...); err != nil {
				return err
			}
		}
	}
	return nil
}

// Writes the configuration at once or not at all; containerd watches the directory.
func configure(cidrs, addresses []string) error {
	type subnet struct {
		Subnet string `json:"subnet"`
	}
	var ranges [][]subnet
	var routes []map[string]string
	for _, cidr := range cidrs {
		ranges = append(ranges, []subnet{{cidr}})
		everywhere := "0.0.0.0/0"
		if isV6(cidr) {
			everywhere = "::/0"
		}
		routes = append(routes, map[string]string{"dst": everywhere})
	}
	content, err := json.MarshalIndent(map[string]any{
		"cniVersion": "0.3.1",
		"name":       "podnet",
		"plugins": []any{
			map[string]any{
				"type": "ptp", "ipMasq": false, "mtu": mtu(addresses),
				"ipam": map[string]any{
					"type": "host-local", "dataDir": "/run/cni-ipam-state", "ranges": ranges, "routes": routes,
				},
			},
			map[string]any{"type": "portmap", "capabilities": map[string]bool{"portMappings": true}},
		},
	}, "", "  ")
	if err != nil {
		return err
	}
	if now, err := os.ReadFile(conflist); err == nil && bytes.Equal(now, content) {
		return nil
	}
	part := filepath.Join(filepath.Dir(conflist), ".podnet.part")
	if err := os.WriteFile(part, content, 0o644); err != nil {
		return err
	}
	fmt.Println("podnet: pods of this node are in", strings.Join(cidrs, ", "))
	return os.Rename(part, conflist)
}

// The MTU of the interface that has the node's address.
func mtu(addresses []string) int {
	interfaces, err := net.Interfaces()
	if err != nil {
		return 1500
	}
	for _, one := range interfaces {
		has, err := one.Addrs()
		if err != nil {
			continue
		}
		for _, address := range has {
			if ip, _, err := net.ParseCIDR(address.String()); err == nil && ip.String() == addresses[0] {
				return one.MTU
			}
		}
	}
	return 1500
}
