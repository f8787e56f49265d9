package redis

// RecordPattern matches the keys of the records of a view's generation of a
// project, as SCAN takes it; of all views where view is "". It is for programs that
// look at a server beside a [Store], such as benchmarks.
func RecordPattern(project, view string, generation int) string {
	s := Store{o: Options{Project: project}}
	if view == "" {
		return s.recordPattern("")
	}
	return s.recordPattern(generationID(view, generation))
}

// ProjectPattern matches every key of a project.
func ProjectPattern(project string) string { return project + "{*" }
