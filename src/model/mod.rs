//! The elastic LLaMA: forward, ranking, subnets.
