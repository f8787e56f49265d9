// Package feast reads the registry file of a Feast repository and writes what it
// declares as Forebay's YAML.
//
// A registry is one message of Protocol Buffers, feast.core.Registry. What is read of
// it, as Feast 0.67 writes it: name = field number.
//
//	Registry             entities = 1, feature_views = 6, feature_services = 7,
//	                     on_demand_feature_views = 8, data_sources = 12,
//	                     stream_feature_views = 14, label_views = 19
//	 each                spec = 1
//	Entity               name = 1, value_type = 2, description = 3, join_key = 4,
//	                     tags = 8, project = 9, owner = 10
//	FeatureView          name = 1, project = 2, entities = 3, features = 4, tags = 5,
//	                     ttl = 6, batch_source = 7, online = 8, stream_source = 9,
//	                     description = 10, owner = 11, entity_columns = 12,
//	                     feature_transformation = 15, disabled = 20
//	StreamFeatureView    name = 1, project = 2, entities = 3, features = 4,
//	                     entity_columns = 5, description = 6, tags = 7, owner = 8,
//	                     ttl = 9, batch_source = 10, stream_source = 11, online = 12,
//	                     user_defined_function = 13, aggregations = 15,
//	                     feature_transformation = 17, disabled = 23
//	OnDemandFeatureView  name = 1, project = 2, features = 3, sources = 4,
//	                     user_defined_function = 5, description = 6, owner = 8,
//	                     feature_transformation = 10
//	FeatureService       name = 1, project = 2, features = 3, tags = 4,
//	                     description = 5, owner = 6
//	 projection          feature_view_name = 1, feature_columns = 2,
//	                     feature_view_name_alias = 3, join_key_map = 4
//	DataSource           type = 1, field_mapping = 2, timestamp_field = 3,
//	                     created_timestamp_column = 5, options = 11 to 35, name = 20,
//	                     description = 23, tags = 24, owner = 25, batch_source = 26
//	 Kafka's options     servers = 1, topic = 2, message_format = 3,
//	                     watermark_delay_threshold = 4
//	Feature              name = 1, value_type = 2, description = 4, vector_index = 5,
//	                     vector_search_metric = 6, vector_length = 7
//	Aggregation          column = 1, function = 2, time_window = 3,
//	                     slide_interval = 4, name = 5
//
// Fields that are not known are passed over: a newer Feast's registry is read as far as it goes.
package feast
