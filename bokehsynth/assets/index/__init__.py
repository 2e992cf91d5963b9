"""From folders to the frozen asset list: discovery, measurement in processes of their own, train/val split."""
