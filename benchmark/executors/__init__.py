"""Ways to run one job: in this process (``inline``) or in a process of its own (``local``)."""
