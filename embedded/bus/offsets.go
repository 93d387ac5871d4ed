package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"holdfast/shop"
)

// newAdmin makes the broker's client of itself. Kafka 2.3's requests say all we ask for, and name
// topics by name.
func newAdmin(addrs []string, deps shop.Deps) (*kgo.Client, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.Dialer(deps.Net.DialContext),
		kgo.MaxVersions(kversion.V2_3_0()), kgo.RetryTimeout(adminTimeout))
	if err != nil {
		return nil, fmt.Errorf("embedded bus: %w", err)
	}
	return client, nil
}

// positions are offsets by topic and partition.
type positions map[string]map[int32]int64

func newPositions() positions { return make(positions) }

func (p positions) set(topic string, id int32, offset int64) {
	if p[topic] == nil {
		p[topic] = make(map[int32]int64)
	}
	p[topic][id] = offset
}

func (p positions) get(topic string, id int32) (offset int64, ok bool) {
	offset, ok = p[topic][id]
	return offset, ok
}

// lower lowers p to what a reader of topics has committed, 0 where that is nothing, for the
// partitions in of.
func (p positions) lower(committed positions, topics []string, of positions) {
	for _, topic := range topics {
		for id := range of[topic] {
			offset, _ := committed.get(topic, id)
			if before, ok := p.get(topic, id); !ok || offset < before {
				p.set(topic, id, offset)
			}
		}
	}
}

// checkTopics finds files of topics that are not known any more. kfake would append to them, were such
// a topic made again.
func (b *Broker) checkTopics(ctx context.Context) error {
	parts, err := b.partitions()
	if err != nil {
		return err
	}
	meta, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, b.admin)
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(meta.Topics))
	for _, t := range meta.Topics {
		if t.Topic != nil {
			known[*t.Topic] = true
		}
	}
	for _, p := range parts {
		if !known[p.topic] && len(p.segments) > 0 {
			return fmt.Errorf("embedded bus: topic %s has files and is not known", p.topic)
		}
	}
	return nil
}

// clampOffsets moves the offsets of groups that lie behind the end of a shortened log to that end:
// the records that come next would be left out otherwise.
func (b *Broker) clampOffsets(ctx context.Context) error {
	groups, err := kmsg.NewPtrListGroupsRequest().RequestWith(ctx, b.admin)
	if err != nil {
		return err
	}
	for _, g := range groups.Groups {
		committed, err := b.committed(ctx, g.Group)
		if err != nil {
			return err
		}
		ends, err := b.ends(ctx, committed)
		if err != nil {
			return err
		}
		beyond := newPositions()
		for topic, ids := range ends {
			for id, end := range ids {
				if at, _ := committed.get(topic, id); at > end {
					beyond.set(topic, id, end)
				}
			}
		}
		if len(beyond) == 0 {
			continue
		}
		b.deps.Log.Warn("the embedded bus lost records at its end", "group", g.Group, "topics", sortedTopics(beyond))
		if err := b.commit(ctx, g.Group, beyond); err != nil {
			return err
		}
	}
	return nil
}

func sortedTopics(p positions) []string {
	topics := make([]string, 0, len(p))
	for t := range p {
		topics = append(topics, t)
	}
	slices.Sort(topics)
	return topics
}

// committed returns what a group has committed; nothing for a group that is not known.
func (b *Broker) committed(ctx context.Context, group string) (positions, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = group // no topics: all
	resp, err := req.RequestWith(ctx, b.admin)
	if err != nil {
		return nil, err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); errors.Is(err, kerr.GroupIDNotFound) {
		return newPositions(), nil
	} else if err != nil {
		return nil, fmt.Errorf("offsets of group %s: %w", group, err)
	}
	found := newPositions()
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if p.Offset >= 0 {
				found.set(t.Topic, p.Partition, p.Offset)
			}
		}
	}
	return found, nil
}

// ends returns the ends of the partitions in of. A partition that is not known has none.
func (b *Broker) ends(ctx context.Context, of positions) (positions, error) {
	if len(of) == 0 {
		return nil, nil
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	for topic, ids := range of {
		rt := kmsg.NewListOffsetsRequestTopic()
		rt.Topic = topic
		for id := range ids {
			rp := kmsg.NewListOffsetsRequestTopicPartition()
			rp.Partition, rp.Timestamp = id, -1
			rt.Partitions = append(rt.Partitions, rp)
		}
		req.Topics = append(req.Topics, rt)
	}
	resp, err := req.RequestWith(ctx, b.admin)
	if err != nil {
		return nil, err
	}
	found := newPositions()
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if kerr.ErrorForCode(p.ErrorCode) == nil {
				found.set(t.Topic, p.Partition, p.Offset)
			}
		}
	}
	return found, nil
}

func (b *Broker) commit(ctx context.Context, group string, offsets positions) error {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	for topic, ids := range offsets {
		rt := kmsg.NewOffsetCommitRequestTopic()
		rt.Topic = topic
		for id, offset := range ids {
			rp := kmsg.NewOffsetCommitRequestTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch = id, offset, -1
			rt.Partitions = append(rt.Partitions, rp)
		}
		req.Topics = append(req.Topics, rt)
	}
	resp, err := req.RequestWith(ctx, b.admin)
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("commit offsets of group %s: %w", group, err)
			}
		}
	}
	return nil
}
