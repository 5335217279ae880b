"""What stands beside a derived series under the same study: masks, maps, reports, key images, a banner."""
