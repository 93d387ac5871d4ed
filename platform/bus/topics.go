package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"holdfast/shop"
)

const (
	// startTimeout is how long a start may wait for the bus.
	startTimeout = 15 * time.Second
	startRetries = 4
)

// TopicSpec describes a topic.
type TopicSpec struct {
	Name       string
	Partitions int               // 0: as the brokers are configured
	Replicas   int               // 0: as the brokers are configured
	Config     map[string]string // "retention.ms"
}

// Topics describes the platform's topics and their dead letters.
func Topics(partitions, replicas int) []TopicSpec {
	specs := make([]TopicSpec, 0, 2*len(shop.Topics))
	for _, name := range shop.Topics {
		specs = append(specs,
			TopicSpec{Name: name, Partitions: partitions, Replicas: replicas},
			TopicSpec{Name: shop.DeadLetters(name), Partitions: partitions, Replicas: replicas})
	}
	return specs
}

// EnsureTopics makes the topics that are missing. Existing ones stay as they are: other partitions
// would send the events of a key to another place and lose their order.
func EnsureTopics(ctx context.Context, cfg Config, deps shop.Deps, topics []TopicSpec) error {
	cfg = cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return err
	}
	client, err := startClient(cfg, deps, "bus.EnsureTopics")
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := client.Ping(ctx); err != nil {
		return cfg.startError("bus.EnsureTopics", err)
	}
	return createTopics(ctx, client, cfg.Prefix, topics)
}

// CheckTopics names the topics that are missing.
func CheckTopics(ctx context.Context, cfg Config, deps shop.Deps, topics []TopicSpec) error {
	_, err := DescribeTopics(ctx, cfg, deps, topics)
	return err
}

// DescribeTopics tells how many partitions and replicas topics have; where some are missing its error names them.
func DescribeTopics(ctx context.Context, cfg Config, deps shop.Deps, topics []TopicSpec) (found []TopicSpec, err error) {
	cfg = cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	client, err := startClient(cfg, deps, "bus.CheckTopics")
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	for _, t := range topics {
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = kmsg.StringPtr(cfg.Prefix + t.Name)
		req.Topics = append(req.Topics, rt)
	}
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, cfg.startError("bus.CheckTopics", err)
	}
	var missing []string
	for _, t := range resp.Topics {
		switch {
		case t.Topic == nil:
		case kerr.ErrorForCode(t.ErrorCode) != nil:
			missing = append(missing, *t.Topic)
		default:
			spec := TopicSpec{Name: *t.Topic, Partitions: len(t.Partitions)}
			if len(t.Partitions) > 0 {
				spec.Replicas = len(t.Partitions[0].Replicas)
			}
			found = append(found, spec)
		}
	}
	if len(missing) > 0 {
		return found, shop.E(shop.Unavailable, "bus.CheckTopics", fmt.Sprintf("the bus has no topics %s, and bus.create_topics is false: make them, or set bus.create_topics to true", strings.Join(missing, ", ")))
	}
	return found, nil
}

// startClient is a client that gives up early: whoever starts wants to know why it does not.
func startClient(cfg Config, deps shop.Deps, op string) (*kgo.Client, error) {
	opts, err := cfg.Options(deps)
	if err != nil {
		return nil, err
	}
	return newClient(op, append(opts, kgo.RequestRetries(startRetries)))
}

func createTopics(ctx context.Context, client *kgo.Client, prefix string, topics []TopicSpec) error {
	req := kmsg.NewPtrCreateTopicsRequest()
	for _, t := range topics {
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = prefix+t.Name, int32(t.Partitions), int16(t.Replicas)
		if t.Partitions == 0 {
			rt.NumPartitions = -1
		}
		if t.Replicas == 0 {
			rt.ReplicationFactor = -1
		}
		for _, name := range sortedKeys(t.Config) {
			rc := kmsg.NewCreateTopicsRequestTopicConfig()
			rc.Name, rc.Value = name, kmsg.StringPtr(t.Config[name])
			rt.Configs = append(rt.Configs, rc)
		}
		req.Topics = append(req.Topics, rt)
	}
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return unavailable("bus.EnsureTopics", err)
	}
	var faults []error
	for _, t := range resp.Topics {
		err := kerr.ErrorForCode(t.ErrorCode)
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			faults = append(faults, fmt.Errorf("topic %s: %w", t.Topic, err))
		}
	}
	if len(faults) > 0 {
		return shop.Wrap(shop.Unavailable, "bus.EnsureTopics", "topics could not be made", errors.Join(faults...))
	}
	return nil
}
