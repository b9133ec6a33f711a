//! Tasks, eval sets and evaluators: from question files to scores of networks.
