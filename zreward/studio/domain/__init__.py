"""The rules: queues, audit, rubric versions, studies, imports and exports. Functions of a database session; no HTTP."""
