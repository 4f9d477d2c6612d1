-- A ledger row holds all features of a decision. So that merging takes less memory, the columns are merged
-- one after the other, and a thousand rows of a part at a time.
ALTER TABLE decision_ledger MODIFY SETTING vertical_merge_algorithm_min_rows_to_activate = 1, merge_max_block_size = 1024;
