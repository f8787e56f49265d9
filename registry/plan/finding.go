package plan

import (
	"cmp"
	"slices"

	"github.com/forebay/forebay/registry/lineage"
)

// Severity says how much a finding matters.
type Severity string

// The severities.
const (
	// Blocking: somebody who reads features now would be given an error or other values
	// than they expect. `plan` exits with 3.
	Blocking Severity = "blocking"
	// Warning: look twice before applying.
	Warning Severity = "warning"
	// Notice: something is to be done, or good to know.
	Notice Severity = "notice"
)

var severities = [...]Severity{Blocking, Warning, Notice}

// Code is the stable code of a finding; docs/plan-codes.md says what to do about each.
type Code string

// The codes.
const (
	ProjectChanged           Code = "project_changed"
	EntityKeysChanged        Code = "entity_keys_changed"
	SourceRemoved            Code = "source_removed"
	SourceColumnAdded        Code = "source_column_added"
	SourceColumnRemoved      Code = "source_column_removed"
	SourceColumnTypeChanged  Code = "source_column_type_changed"
	SourceTopicChanged       Code = "source_topic_changed"
	SourceTimeChanged        Code = "source_time_changed"
	SourceDecodingChanged    Code = "source_decoding_changed"
	ViewRemoved              Code = "view_removed"
	FeatureRemoved           Code = "feature_removed"
	FeatureTypeChanged       Code = "feature_type_changed"
	TTLShortened             Code = "ttl_shortened"
	TTLExtended              Code = "ttl_extended"
	BackfillNeeded           Code = "backfill_needed"
	OnDemandChanged          Code = "on_demand_changed"
	ServiceRemoved           Code = "service_removed"
	ServiceOutputRemoved     Code = "service_output_removed"
	ServiceOutputRenamed     Code = "service_output_renamed"
	ServiceOutputTypeChanged Code = "service_output_type_changed"
	ServiceKeyNeeded         Code = "service_key_needed"
	ServiceKeyDropped        Code = "service_key_dropped"
)

// Finding is something about the changes that the person who applies them should know.
type Finding struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	lineage.Node
	// Message says what happens, and to whom, in whole sentences.
	Message string `json:"message"`
	// Consumers are the services and on-demand views that it reaches, ordered.
	Consumers []lineage.Node `json:"consumers,omitempty"`
}

// sortFindings orders by severity, then by what they are about, then by code.
func sortFindings(fs []Finding) {
	slices.SortStableFunc(fs, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(slices.Index(severities[:], a.Severity), slices.Index(severities[:], b.Severity)),
			lineage.Compare(a.Node, b.Node),
			cmp.Compare(a.Code, b.Code),
		)
	})
}
