//! What NetworkPolicy means: types, reference evaluator, compiler and incremental index
